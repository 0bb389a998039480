"""Choose which layers of a model learn, when, and at which rate."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import lightning
from lightning.pytorch.callbacks import Callback
from torch import nn

from reid_edge.core.errors import TrainingError
from reid_edge.models.architecture import CLASSIFIER, HEAD


def split_head(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of the backbone and those of the head, each in the model's order."""
    backbone: list[nn.Parameter] = []
    head: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (head if name.partition(".")[0] in HEAD else backbone).append(parameter)
    return backbone, head


def match_layers(
    model: nn.Module, patterns: Sequence[str], *, classifier_learns: bool = True
) -> list[nn.Module]:
    """Return the modules whose names match any of the patterns.

    Args:
        model: where to look.
        patterns: names of modules, with the wildcards ``*``, ``?`` and ``[...]`` of a shell.
        classifier_learns: whether any loss depends on the logits.

    Raises:
        TrainingError: a pattern matches no module (the message names the nearest ones), or no
            other parameter is left to learn.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        fitting = {name: m for name, m in modules.items() if fnmatchcase(name, pattern)}
        if not fitting:
            near = ", ".join(difflib.get_close_matches(pattern, modules, n=3, cutoff=0.0))
            raise TrainingError(
                f"frozen_layers: the model has no layer {pattern!r}; the nearest are {near}"
            )
        found |= fitting
    chosen = list(found.values())
    frozen = {parameter for module in chosen for parameter in module.parameters()}
    if not any(
        parameter.requires_grad
        and parameter not in frozen
        and (classifier_learns or not name.startswith(f"{CLASSIFIER}."))
        for name, parameter in model.named_parameters()
    ):
        raise TrainingError(
            f"frozen_layers: {', '.join(patterns)} leave no layer that the losses train; "
            "name fewer of them"
        )
    return chosen


class FreezeLayers(Callback):
    """Keep layers and their BatchNorm statistics as they are for the first epochs.

    Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019, train
    only the classifier for the first ten epochs; torchreid calls it fixbase.

    Args:
        layers: they are frozen with all layers inside them.
        epochs: number of epochs in which they are frozen.
    """

    def __init__(self, layers: Sequence[nn.Module], epochs: int) -> None:
        self._layers = list(layers)
        self._epochs = epochs
        parameters = [p for layer in self._layers for p in layer.parameters() if p.requires_grad]
        # Without those that never learn, such as the shift of a BNNeck.
        self._parameters = list(dict.fromkeys(parameters))

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Freeze or release; this depends on the epoch alone, so that resuming does the same."""
        del pl_module
        learns = trainer.current_epoch >= self._epochs
        for layer in self._layers:
            layer.train(learns)
        self._require_gradients(learns)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Release all parameters, also if they were frozen in the last epoch."""
        del trainer, pl_module
        self._require_gradients(True)

    def _require_gradients(self, learns: bool) -> None:
        for parameter in self._parameters:
            parameter.requires_grad_(learns)
