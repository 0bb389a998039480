"""The state of a training after an epoch: its files, its progress, its weights."""

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from reid_edge.core.checksums import are_intact, forget_files, read_checksums
from reid_edge.models.checkpoint import read_torch_file

LAST = "last.ckpt"
BEST = "best.ckpt"
SUFFIX = ".ckpt"
# Key of a state: how many processes have trained together.
RANKS = "ranks"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epochs: number of whole epochs that are done.
        stopped: whether validation did not improve for as many epochs as the patience allows.
        ranks: how many processes trained together; 0: not known.
    """

    epochs: int = 0
    stopped: bool = False
    ranks: int = 0


def read_progress(folder: Path, steps_per_epoch: int) -> Progress:
    """Read how far the training is whose state is kept in a folder.

    If a file of the state is damaged or missing, all are removed: the training begins again.
    """
    state = {folder / LAST, *folder.glob(f"*{SUFFIX}")}
    state |= {folder / name for name in read_checksums(folder) if name.endswith(SUFFIX)}
    if not any(path.exists() for path in state):
        return Progress()
    if not are_intact(*sorted(state)):
        logger.warning("%s: the training begins again, its state is damaged", folder)
        forget_files(state)
        return Progress()
    content = read_torch_file(folder / LAST)
    ranks = int(content.get(RANKS, 0))
    return Progress(
        # Lightning writes the file at the end of an epoch and still counts it as the current one.
        # Steps say how many there were only if all epochs had as many.
        epochs=content["epoch"] + 1 if ranks else int(content["global_step"]) // steps_per_epoch,
        stopped=any(state.get("stopped_epoch") for state in content["callbacks"].values()),
        ranks=ranks,
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
