"""Checkpoints as models for inference: this program's own, and those of torchreid and others."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from reid.errors import CheckpointError
from reid.inference.loaded_model import Colours, LoadedModel, Metadata
from reid.models.checkpoint import load_checkpoint, read_torch_file
from reid.models.pretrained import (
    CLASSIFIER,
    INPUT_STATISTICS,
    POOLING,
    architecture_from_name,
    extract_state,
    load_pretrained,
)
from reid.models.registry import MODELS, build_model, check_architecture

# OSNet's and ResNet's.
EMBEDDING_LAYERS = ("fc.0.weight", "embedding.0.weight")
LARGEST_PIXEL, DECIMALS = 255, 6

_log = logging.getLogger(__name__)


def load_checkpoint_file(path: Path, architecture: str | None = None) -> LoadedModel:
    """Load a checkpoint of this program, or one of torchreid, FastReID or BoxMOT.

    Args:
        path: a file of ``torch.save``; nothing in it is run.
        architecture: of a foreign checkpoint; by default it is read off the file's name, as in
            ``osnet_x0_25_msmt17.pt``. A ResNet's name does not tell its last stride.

    Raises:
        CheckpointError: the file is damaged or not safe, its weights do not fit, nothing says
            which architecture it is, or it pools features otherwise than by averaging them.
        ModelError: the architecture is not known.
    """
    content = read_torch_file(path)
    if "format_version" in content:
        return _load_own(path)
    return _load_foreign(path, extract_state(content, path), architecture)


def _load_own(path: Path) -> LoadedModel:
    model, info = load_checkpoint(path)
    metadata = Metadata(
        info.architecture, info.input_size, info.mean, info.deviation, info.colour_order
    )
    return LoadedModel(model, metadata, "checkpoint")


def _load_foreign(path: Path, state: dict[str, Tensor], architecture: str | None) -> LoadedModel:
    name = check_architecture(architecture or _architecture_from_name(path, state))
    model = build_model(name, **_sizes(state))
    report = load_pretrained(model, path)
    # Training could begin with a random embedding layer; an embedding made by one means nothing.
    random = [tensor for tensor in report.missing if not tensor.startswith(CLASSIFIER)]
    if random:
        raise CheckpointError(
            f"{path}: {random[0]!r} of {name} is not in the file, so it gives no embeddings; "
            "choose the architecture of the file"
        )
    _check_pooling(path, state)
    _log.info("%s", report)
    mean, deviation = _input_statistics(path, state)
    metadata = Metadata(architecture=name, mean=mean, deviation=deviation)
    return LoadedModel(model.eval(), metadata, "checkpoint")


def _architecture_from_name(path: Path, state: Mapping[str, Tensor]) -> str:
    name = architecture_from_name(path)
    other = f"{name}_last_stride_2"
    if other in MODELS and "bottleneck.weight" in state:
        raise CheckpointError(
            f"{path}: has a BNNeck, which {name} has not; give --architecture {name}_bnneck"
        )
    if other in MODELS:
        raise CheckpointError(
            f"{path}: neither the file nor its name says the last stride of its {name}, and the "
            f"weights fit both; give --architecture {name} (stride 1) or {other} (torchreid's)"
        )
    return name


def _check_pooling(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a pooling of FastReID's with weights, unless it is an average after all."""
    for name, value in state.items():
        if name == f"{POOLING}p" and bool((value == 1).all()):
            continue
        if name.startswith(POOLING):
            raise CheckpointError(
                f"{path}: {name!r} is of a pooling that is not known here, where features are "
                "averaged; export the model to ONNX with the program that trained it"
            )


def _input_statistics(path: Path, state: Mapping[str, Tensor]) -> tuple[Colours, Colours]:
    """Return the mean and the deviation of colours in [0, 1], FastReID's where it kept them."""
    usual = Metadata()
    mean, deviation = (
        _colours(path, name, state[name]) if name in state else default
        for name, default in zip(INPUT_STATISTICS, (usual.mean, usual.deviation), strict=True)
    )
    return mean, deviation


def _colours(path: Path, name: str, pixels: Tensor) -> Colours:
    values = pixels.flatten().tolist()
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        raise CheckpointError(f"{path}: {name!r} is {values}, not a number for each colour")
    # In float32, 255 x 0.485 divided by 255 is not 0.485 again.
    red, green, blue = (round(value / LARGEST_PIXEL, DECIMALS) for value in values)
    return red, green, blue


def _sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the number of classes and the embedding size off the weights, where they are there."""
    layers = {"num_classes": ("classifier.weight",), "embedding_dim": EMBEDDING_LAYERS}
    return {
        option: len(state[layer])
        for option, names in layers.items()
        for layer in names
        if layer in state and state[layer].ndim == 2 and len(state[layer])
    }
