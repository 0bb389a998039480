"""A model as other programs keep theirs: torchreid's and BoxMOT's checkpoints.

Both hold weights alone and build the architecture by its name, so they carry stock widths only.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_edge.core.errors import ModelError
from reid_edge.core.io import write_torch
from reid_edge.models.checkpoint_info import CheckpointInfo

TORCHREID_FILE = "model.pth.tar"
EMBEDDING_DIM = 512
# Architectures that torchreid 0.2.5 and BoxMOT build from the same weights.
SHARED = (
    "osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x1_0",
)  # fmt: skip


def check_shared(info: CheckpointInfo) -> None:
    """Raise unless torchreid and BoxMOT can build a model.

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
    if info.architecture not in SHARED or info.embedding_dim != EMBEDDING_DIM:
        raise ModelError(
            f"torchreid and BoxMOT do not build {info.architecture} with {info.embedding_dim} "
            f"dimensions; they build {', '.join(SHARED)} with {EMBEDDING_DIM}"
        )


def save_torchreid(path: Path, model: nn.Module, info: CheckpointInfo, *, epoch: int = 0) -> None:
    """Write what torchreid's ``save_checkpoint`` writes, without an optimizer's state.

    Args:
        path: ``model.pth.tar`` or ``model.pth.tar-60``, as torchreid calls them.
        model: with weights.
        info: what its checkpoint says; rank-1 is taken from its metrics, or is 0.
        epoch: that torchreid would go on from.

    Raises:
        ModelError: torchreid cannot build the model.
    """
    check_shared(info)
    rank1 = float(info.metrics.get("rank1", 0.0))
    write_torch(path, {"state_dict": _state(model), "epoch": epoch, "rank1": rank1})


def save_boxmot(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write a checkpoint for BoxMOT, which reads architecture, classes and input size from it.

    Args:
        path: see ``boxmot_name``. Older versions read architecture and classes from the file's
            name, and bring every crop to 256 x 128.
        model: with weights.
        info: what its checkpoint says.

    Raises:
        ModelError: BoxMOT cannot build the model.
    """
    check_shared(info)
    content: dict[str, Any] = {
        "state_dict": _state(model),
        "model_name": info.architecture,
        "num_classes": info.num_classes,
        "img_size": list(info.input_size),
    }
    write_torch(path, content)


def boxmot_name(architecture: str, data: str) -> str:
    """Return a file's name as BoxMOT reads it: architecture and data set, without a suffix."""
    cleaned = "".join(letter for letter in data.lower() if letter.isalnum())
    return f"{architecture}_{cleaned or 'own'}"


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
