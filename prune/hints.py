"""Hints: the kept channels at which compact and full-width features are compared."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from reid_edge.core.modes import evaluating


def hint_channels(
    model: nn.Module, example: Tensor, kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Find the stages of a model and which channels of their full-width outputs are kept.

    A stage is a direct child of the model that contains a convolution and returns a feature map
    (N, C, H, W); its channels are those of its last convolution. No adapter is needed, because the
    index of every kept channel in the full-width model is known.

    Args:
        model: the compact model.
        example: an input (N, 3, H, W).
        kept: indices of the full-width model's channels that are kept, by layer.

    Returns:
        Kept channels (C,) by the name of the stage.
    """
    last_layer: dict[str, str] = {}
    channels: dict[str, int] = {}

    def note_layer(stage: str, layer: str, *_: object) -> None:
        last_layer[stage] = layer

    def note_channels(stage: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            channels[stage] = output.shape[1]

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for stage, child in model.named_children():
            for name, module in child.named_modules(prefix=stage):
                if isinstance(module, nn.Conv2d):
                    hook = partial(note_layer, stage, name)
                    hooks.enter_context(module.register_forward_hook(hook))
            hooks.enter_context(child.register_forward_hook(partial(note_channels, stage)))
        model(example)
    return {
        stage: kept[layer]
        for stage, layer in last_layer.items()
        if channels.get(stage) == len(kept[layer])
    }


@torch.no_grad()
def hint_errors(
    compact: nn.Module, full: nn.Module, hints: Mapping[str, Tensor], images: Tensor
) -> dict[str, float]:
    """Return the errors of the stages of a compact model to the full-width model.

    Args:
        compact: the compact model; it is left in evaluation mode.
        full: the model that it was cut from.
        hints: kept channels by stage, from :func:`hint_channels`.
        images: inputs (N, 3, H, W).

    Returns:
        ||compact - full||^2 / ||full||^2 of every stage's output at the kept channels.
    """
    compact.eval()
    ours: dict[str, Tensor] = {}
    theirs: dict[str, Tensor] = {}

    def keep(
        outputs: dict[str, Tensor], stage: str, _module: nn.Module, _inputs: object, output: Tensor
    ) -> None:
        outputs[stage] = output

    for model, outputs in ((compact, ours), (full, theirs)):
        with ExitStack() as hooks, evaluating(model):
            for stage in hints:
                hook = partial(keep, outputs, stage)
                hooks.enter_context(model.get_submodule(stage).register_forward_hook(hook))
            model(images)
    errors = {}
    for stage, kept in hints.items():
        target = theirs[stage].index_select(1, kept)
        energy = target.pow(2).sum().clamp_min(1e-12)  # avoids a division by zero for a dead stage
        errors[stage] = float((ours[stage] - target).pow(2).sum() / energy)
    return errors
