"""Checkpoints of this program, torchreid, FastReID and BoxMOT, run by PyTorch on CPU or GPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.archive import ARCHIVE_HEAD
from reid_edge.core.devices import choose_device
from reid_edge.core.errors import ArchitectureError, CheckpointError
from reid_edge.core.model_file import (
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
            file's name, as in ``osnet_x0_25_msmt17.pt``, or off FastReID's weights. A ResNet's name
            does not tell its last stride; FastReID's is taken for 1. The input size is that of
            BoxMOT's ``img_size``, if there is one.

    Raises:
        CheckpointError: the file is damaged or not safe, its weights do not fit, nothing says
            which architecture it is, or its program computes something else with them.
        ModelError: the architecture is not known, or there is no GPU to run it on.
    """
    from reid_edge.inference.features import embed_on
    from reid_edge.models.checkpoint import load_checkpoint, read_torch_file

    content = read_torch_file(path)
    if "format_version" not in content:
        model, metadata = _load_foreign(path, content, options)
    elif options.weights_key is not None:
        raise CheckpointError(f"{path}: holds one model; leave --weights-key out")
    else:
        model, info = load_checkpoint(path)
        metadata = ModelMetadata(
            info.architecture, info.input_size, info.colour_order, info.mean, info.std
        )
    embed = embed_on(model, choose_device(options.device))
    return LoadedModel(embed, metadata, "checkpoint", module=model)


def _load_foreign(
    path: Path, content: Mapping[str, Any], options: LoadOptions
) -> tuple[nn.Module, ModelMetadata]:
    from reid_edge.models.fastreid_files import is_fastreids, with_own_names
    from reid_edge.models.foreign_state import find_state, unwrapped
    from reid_edge.models.pretrained import load_pretrained
    from reid_edge.models.registry import build_model

    found = find_state(content, path, options.weights_key)
    state = unwrapped(found.state, path)
    choose = _fastreids_architecture if is_fastreids(found.state) else _architecture
    name = choose(path, state, options.architecture)
    # The number of classes and the embedding size are those of the weights, where they are there.
    state = with_own_names(state)
    layers = {"num_classes": (f"{CLASSIFIER}.weight",), "embedding_dim": EMBEDDING_WEIGHTS}
    sizes = {
        option: len(state[layer])
        for option, names in layers.items()
        for layer in names
        if layer in state and state[layer].ndim == 2 and len(state[layer])
    }
    model = build_model(name, **sizes)
    report = load_pretrained(model, path, options.weights_key)
    if report.incompatibilities:
        raise CheckpointError(f"{path}: {report.incompatibilities[0]}")
    # Training could begin with a random embedding layer; an embedding made by one means nothing.
    if report.random:
        raise CheckpointError(
            f"{path}: {report.random[0]!r} of {name} is not in the file, so it gives no "
            "embeddings; choose the architecture of the file"
        )
    _log.info("%s", report)
    input_size = None
    match content.get("img_size"):  # BoxMOT's: what it resizes images to
        case [int(height), int(width)]:
            input_size = height, width
    mean, std = report.statistics
    return model.eval(), ModelMetadata(name, input_size, mean=mean, std=std)


def _fastreids_architecture(
    path: Path, state: Mapping[str, Tensor], architecture: str | None
) -> str:
    """Return the architecture of FastReID's weights, which tell it; another one is refused."""
    from reid_edge.models.fastreid_files import find_architecture

    form = find_architecture(state)
    if form is None:
        # One that was registered from outside may be what nobody here knows.
        if architecture is not None and ARCHITECTURES.load(architecture).fastreid == architecture:
            return architecture
        forms = [name for name, declared in ARCHITECTURES.items() if declared.fastreid == name]
        raise CheckpointError(
            f"{path}: is of FastReID, with a backbone that is not built here; known are "
            f"{', '.join(forms)}; export others to ONNX with FastReID"
        )
    if architecture not in (None, form):
        reason = ", whose ResNet has a first pooling without padding" if "resnet" in form else ""
        raise ArchitectureError(f"{path}: is of FastReID{reason}; give --architecture {form}")
    return form


def _architecture(path: Path, state: Mapping[str, Tensor], architecture: str | None) -> str:
    """Return the architecture that is asked for or in the file's name.

    Raises:
        CheckpointError: the name does not say all that the weights leave open.
    """
    from reid_edge.models.pretrained import architecture_from_name

    if architecture is not None:
        return architecture
    name = architecture_from_name(path)
    declared = ARCHITECTURES.load(name)
    if declared.bnneck is not None and f"{NECK}.weight" in state:
        raise ArchitectureError(
            f"{path}: has a BNNeck, which {name} has not; give --architecture {declared.bnneck}"
        )
    if declared.stride_2 is not None:
        raise ArchitectureError(
            f"{path}: neither the file nor its name says the last stride of its {name}, and the "
            f"weights fit both; give --architecture {name} (stride 1) or {declared.stride_2} "
            "(torchreid's)"
        )
    return name


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
