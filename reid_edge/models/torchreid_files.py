"""Checkpoints for torchreid, and what it shares with BoxMOT.

Both programs' files hold weights alone, and the programs build the architecture by its name, so the
files carry stock widths only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.errors import ModelError
from reid_edge.core.exporter import Described, Exporter, ExportSource
from reid_edge.core.io import write_torch
from reid_edge.models.registry import ARCHITECTURES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reid_edge.models.checkpoint_info import CheckpointInfo

TORCHREID_FILE = "model.pth.tar"
EMBEDDING_DIM = 512
# Programs that build the architectures which name them (``published_by``) from the same weights.
PROGRAMS = {"torchreid", "boxmot"}


def check_shared(info: Described) -> None:
    """Check that torchreid and BoxMOT can build a model.

    Raises:
        ModelError: it has widths of its own, or an architecture or embedding that they lack.
    """
    if info.widths:
        name = next(iter(info.widths))
        raise ModelError(
            "the formats of torchreid and BoxMOT cannot carry widths of one's own, they build "
            f"{info.architecture} as published; this model's {name} has {info.widths[name]} "
            "channels: prune to a published width, or export others than torchreid and boxmot"
        )
    shared = [name for name, known in ARCHITECTURES.items() if {*known.published_by} >= PROGRAMS]
    if info.architecture not in shared or info.embedding_dim != EMBEDDING_DIM:
        raise ModelError(
            f"torchreid and BoxMOT do not build {info.architecture} with {info.embedding_dim} "
            f"dimensions; they build {', '.join(shared)} with {EMBEDDING_DIM}"
        )


def save_torchreid(path: Path, model: nn.Module, info: CheckpointInfo, *, epoch: int = 0) -> None:
    """Write what torchreid's ``save_checkpoint`` writes, without an optimizer's state.

    Args:
        path: ``model.pth.tar`` or ``model.pth.tar-60``, as torchreid calls them.
        model: with weights.
        info: what its checkpoint says; rank-1 is taken from its metrics, or is 0.
        epoch: that torchreid resumes from.

    Raises:
        ModelError: torchreid cannot build the model.
    """
    check_shared(info)
    rank1 = float(info.metrics.get("rank1", 0.0))
    write_torch(path, {"state_dict": plain_state(model), "epoch": epoch, "rank1": rank1})


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def described(source: ExportSource) -> CheckpointInfo:
    """Return what the checkpoint of an exported model says of it.

    Raises:
        ModelError: it is not of an architecture that is known.
    """
    from reid_edge.models.checkpoint import describe

    ARCHITECTURES.check(source.metadata.architecture)

    height, width = source.example.shape[2:]
    return describe(
        source.module,
        source.metadata.architecture,
        input_size=source.metadata.input_size or (height, width),
        metrics=source.accuracy,
    )


TORCHREID = Exporter(
    "torchreid",
    "checkpoint of torchreid",
    TORCHREID_FILE,
    lambda source, path: save_torchreid(path, source.module, described(source)),
    timed=False,
    meant_for="training (torchreid)",
    carries_widths=False,
    check=check_shared,
)
