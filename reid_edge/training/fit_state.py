"""The state of a training after an epoch: its files, its progress, its weights."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from reid_edge.models.checkpoint import read_torch_file

LAST = "last.ckpt"
BEST = "best.ckpt"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epochs: number of whole epochs that are done.
        stopped: whether validation did not improve for as many epochs as the patience allows.
    """

    epochs: int = 0
    stopped: bool = False


def read_progress(folder: Path, steps_per_epoch: int) -> Progress:
    """Read how far the training is whose state is kept in a folder.

    Raises:
        CheckpointError: the state cannot be read.
    """
    if not (folder / LAST).exists():
        return Progress()
    content = read_torch_file(folder / LAST)
    return Progress(
        # Lightning writes the file at the end of an epoch and still counts it as the current one.
        epochs=int(content["global_step"]) // steps_per_epoch,
        stopped=any(state.get("stopped_epoch") for state in content["callbacks"].values()),
    )


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights that a state holds into a model; with ``ema_decay``, their average.

    Raises:
        CheckpointError: the state cannot be read.
    """
    state = read_torch_file(path)["state_dict"]
    prefix = "model."  # the name of the model in ReidModule
    model.load_state_dict(
        {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    )
