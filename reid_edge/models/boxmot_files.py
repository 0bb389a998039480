"""Checkpoints for BoxMOT, which reads the architecture off a file's name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.exporter import Exporter
from reid_edge.core.io import write_torch
from reid_edge.core.model_file import boxmot_name
from reid_edge.models.torchreid_files import check_shared, described, plain_state

if TYPE_CHECKING:
    from torch import nn

    from reid_edge.models.checkpoint_info import CheckpointInfo


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
        "state_dict": plain_state(model),
        "model_name": info.architecture,
        "num_classes": info.num_classes,
        "img_size": list(info.input_size),
    }
    write_torch(path, content)


BOXMOT = Exporter(
    "boxmot",
    "checkpoint of BoxMOT",
    lambda source: f"{boxmot_name(source.metadata.architecture, source.dataset)}.pt",
    lambda source, path: save_boxmot(path, source.module, described(source)),
    timed=False,
    meant_for="trackers (BoxMOT)",
    carries_widths=False,
    check=check_shared,
)
