"""The product's own checkpoints: a dictionary that ``torch.load(weights_only=True)`` reads."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.core.io import write_torch
from reid_edge.data.images import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.models.registry import build_model
from reid_edge.models.resize import Widths, apply_widths, differing_widths, match_normalisation

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of its model.

    Attributes:
        architecture: name in the registry.
        num_classes: identities of the classifier.
        embedding_dim: size of the embedding.
        input_size: (height, width) in pixels.
        widths: [input, output] channels of the layers that are not the stock ones.
        metrics: what was measured on query and gallery, if anything.
        parent_hash: SHA-256 of the checkpoint that this one was made from, or empty.
        colour_order: of the input.
        mean: of each colour, in [0, 1].
        std: of each colour, in [0, 1].
        format_version: of the file.
    """

    architecture: str
    num_classes: int
    embedding_dim: int
    input_size: tuple[int, int]
    widths: Widths = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parent_hash: str = ""
    colour_order: str = "RGB"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    format_version: int = FORMAT_VERSION


def describe(
    model: nn.Module,
    architecture: str,
    *,
    input_size: tuple[int, int],
    metrics: Mapping[str, Any] | None = None,
    parent_hash: str = "",
) -> CheckpointInfo:
    """Describe a model for its checkpoint; widths are compared with the stock architecture."""
    classifier = model.get_submodule("classifier")
    num_classes, embedding_dim = classifier.weight.shape  # type: ignore[misc]
    stock = build_model(architecture, num_classes=num_classes, embedding_dim=embedding_dim)
    return CheckpointInfo(
        architecture=architecture,
        num_classes=int(num_classes),
        embedding_dim=int(embedding_dim),
        input_size=input_size,
        widths=differing_widths(model, stock),
        metrics=dict(metrics or {}),
        parent_hash=parent_hash,
    )


def save_checkpoint(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write a checkpoint, whole or not at all; the same bytes whatever the memory layout."""
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    write_torch(path, {**asdict(info), "state_dict": state})


def load_checkpoint(path: Path) -> tuple[nn.Module, CheckpointInfo]:
    """Rebuild a model from a checkpoint of this product.

    Returns:
        The model in evaluation mode on the CPU, and what the file says of it.

    Raises:
        CheckpointError: the file cannot be read safely, or is not a checkpoint of this product.
    """
    content = read_torch_file(path)
    if "format_version" not in content or "state_dict" not in content:
        raise CheckpointError(
            f"{path}: not a checkpoint of this program; give a foreign one as train.pretrained"
        )
    if content["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {content['format_version']}, expected {FORMAT_VERSION}; "
            "use the version of the program that wrote it"
        )
    state = content.pop("state_dict")
    try:
        for name in ("input_size", "mean", "std"):
            content[name] = tuple(content[name])
        info = CheckpointInfo(**content)
        return rebuild(info, state, path), info
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({error}); write it again") from error


def rebuild(info: CheckpointInfo, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Build the model that a checkpoint describes and load its weights strictly."""
    model = build_model(
        info.architecture, num_classes=info.num_classes, embedding_dim=info.embedding_dim
    )
    apply_widths(model, info.widths)
    match_normalisation(model, state)
    try:
        model.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: weights do not fit {info.architecture}: {detail}"
        ) from error
    return model.eval()


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read a file of ``torch.save`` without running anything in it.

    Numpy scalars, which torchreid stores beside the weights, are allowed; nothing else is.

    Raises:
        CheckpointError: the file is missing, damaged, holds code, or is not a dictionary.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; give the path of a checkpoint")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: {_unsafe_reason(error)}") from error
    except Exception as error:  # damage shows as almost any of them
        raise CheckpointError(
            f"{path}: not a readable checkpoint (truncated or another format); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, expected a dictionary of weights"
        )
    return content


def _numpy_scalars() -> list[Any]:
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = {type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)}
    # One function, by the name that numpy 2 pickles it under and by that of numpy 1.
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")]
    return [*scalars, np.dtype, *kinds]


def _unsafe_reason(error: Exception) -> str:
    text = str(error)
    if "Unsupported global" in text or "WeightsUnpickler" in text or "Unsupported" in text:
        return (
            "holds pickled Python objects, which can run code when they are loaded; refused. "
            "Save the weights alone: torch.save(model.state_dict(), path)"
        )
    return "not a readable checkpoint (truncated or another format); copy it again"
