"""Checkpoints of this program, torchreid, FastReID and BoxMOT, run by PyTorch on CPU or GPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.devices import choose_device
from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import (
    ARCHIVE_HEAD,
    Backend,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
    archive_names,
)
from reid_edge.models.architecture import CLASSIFIER, EMBEDDING_WEIGHTS, NECK
from reid_edge.models.registry import ARCHITECTURES

if TYPE_CHECKING:
    from torch import Tensor, nn

_log = logging.getLogger(__name__)


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load a checkpoint of this program, or one of torchreid, FastReID or BoxMOT.

    Args:
        path: a file of ``torch.save``; nothing in it is run.
        options: the architecture is that of a foreign checkpoint; by default it is read off the
            file's name, as in ``osnet_x0_25_msmt17.pt``. A ResNet's name does not tell its last
            stride; FastReID's is taken for 1. The input size is that of BoxMOT's ``img_size``, if
            there is one.

    Raises:
        CheckpointError: the file is damaged or not safe, its weights do not fit, nothing says
            which architecture it is, or its program computes something else with them.
        ModelError: the architecture is not known, or there is no GPU to run it on.
    """
    from reid_edge.inference.features import embed_on
    from reid_edge.models.checkpoint import load_checkpoint, read_torch_file

    content = read_torch_file(path)
    if "format_version" in content:
        model, info = load_checkpoint(path)
        metadata = ModelMetadata(
            info.architecture, info.input_size, info.colour_order, info.mean, info.std
        )
    else:
        model, metadata = _load_foreign(path, content, options.architecture)
    embed = embed_on(model, choose_device(options.device))
    return LoadedModel(embed, metadata, "checkpoint")


def _load_foreign(
    path: Path, content: Mapping[str, Any], architecture: str | None
) -> tuple[nn.Module, ModelMetadata]:
    from reid_edge.models.pretrained import extract_state, is_fastreids, load_pretrained
    from reid_edge.models.registry import build_model

    state = extract_state(content, path)
    if is_fastreids(content, path):
        name = _fastreids_architecture(path, architecture)
    else:
        name = architecture or _architecture_from_name(path, state)
    model = build_model(name, **_sizes(state))
    report = load_pretrained(model, path)
    if report.incompatibilities:
        raise CheckpointError(f"{path}: {report.incompatibilities[0]}")
    # Training could begin with a random embedding layer; an embedding made by one means nothing.
    if report.random:
        raise CheckpointError(
            f"{path}: {report.random[0]!r} of {name} is not in the file, so it gives no "
            "embeddings; choose the architecture of the file"
        )
    _log.info("%s", report)
    mean, std = report.statistics
    metadata = ModelMetadata(name, _boxmots_input_size(content), mean=mean, std=std)
    return model.eval(), metadata


def _fastreids_architecture(path: Path, architecture: str | None) -> str:
    """Return FastReID's form of the architecture that is asked for or in the file's name."""
    from reid_edge.models.pretrained import architecture_from_name

    name = architecture or architecture_from_name(path)
    form = ARCHITECTURES.load(name).fastreid
    if form is None:  # FastReID's OSNet is torchreid's
        return name
    if architecture not in (None, form):
        raise CheckpointError(
            f"{path}: is of FastReID, whose ResNet has a first pooling without padding; give "
            f"--architecture {form}"
        )
    return form


def _architecture_from_name(path: Path, state: Mapping[str, Tensor]) -> str:
    from reid_edge.models.pretrained import architecture_from_name

    name = architecture_from_name(path)
    declared = ARCHITECTURES.load(name)
    if declared.bnneck is not None and f"{NECK}.weight" in state:
        raise CheckpointError(
            f"{path}: has a BNNeck, which {name} has not; give --architecture {declared.bnneck}"
        )
    if declared.stride_2 is not None:
        raise CheckpointError(
            f"{path}: neither the file nor its name says the last stride of its {name}, and the "
            f"weights fit both; give --architecture {name} (stride 1) or {declared.stride_2} "
            "(torchreid's)"
        )
    return name


def _boxmots_input_size(content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (height, width) that BoxMOT brings crops to, where its checkpoint says it."""
    match content.get("img_size"):
        case [int(height), int(width)]:
            return height, width
    return None


def _sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the number of classes and the embedding size off the weights, where they are there."""
    layers = {"num_classes": (f"{CLASSIFIER}.weight",), "embedding_dim": EMBEDDING_WEIGHTS}
    return {
        option: len(state[layer])
        for option, names in layers.items()
        for layer in names
        if layer in state and state[layer].ndim == 2 and len(state[layer])
    }


def _recognise(path: Path, head: bytes) -> bool:
    # An archive, or what PyTorch saved before it saved archives.
    if head[:4] != ARCHIVE_HEAD:
        return head[:1] == b"\x80"
    return not any("/code/" in name for name in archive_names(path, head))


BACKEND = Backend(
    "checkpoint",
    "a checkpoint",
    _recognise,
    load,
    meant_for="training (eager PyTorch)",
    packages=("torch",),
    extra="compress",
    on_gpu=True,
)
