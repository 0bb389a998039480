"""This program's own checkpoints: a dictionary that ``torch.load(weights_only=True)`` reads."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor, nn

from reid_edge.core.archive import find_damage
from reid_edge.core.errors import CheckpointError
from reid_edge.core.file_kinds import kind_of_file
from reid_edge.core.io import write_torch
from reid_edge.models.architecture import CLASSIFIER, Architecture
from reid_edge.models.checkpoint_info import CheckpointInfo, parse_info
from reid_edge.models.custom_widths import apply_widths, differing_widths, match_normalisation
from reid_edge.models.registry import build_model
from reid_edge.models.shapes import build_shapes
from reid_edge.models.tensor_checks import find_flaw


def describe(
    model: nn.Module,
    architecture: str | Architecture,
    *,
    input_size: tuple[int, int],
    metrics: Mapping[str, float] | None = None,
    parent_hash: str = "",
) -> CheckpointInfo:
    """Describe a model for its checkpoint.

    Args:
        model: its widths are compared with the architecture's.
        architecture: a registered name, or a declaration.
        input_size: (height, width) in pixels.
        metrics: accuracy on query and gallery, if it was measured.
        parent_hash: SHA-256 of the checkpoint that the model was made from.

    Raises:
        ModelError: the architecture is not known.
    """
    num_classes, embedding_dim = model.get_submodule(CLASSIFIER).weight.shape  # type: ignore[misc]
    stock = build_shapes(architecture, num_classes=num_classes, embedding_dim=embedding_dim)
    return CheckpointInfo(
        architecture=architecture if isinstance(architecture, str) else architecture.name,
        num_classes=int(num_classes),
        embedding_dim=int(embedding_dim),
        input_size=input_size,
        widths=differing_widths(model, stock),
        metrics=dict(metrics or {}),
        parent_hash=parent_hash,
    )


def save_checkpoint(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write a checkpoint, whole or not at all; its bytes do not depend on the memory layout.

    The file carries a hash of itself, by which any change of it is found when it is read.
    """
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    write_torch(path, {**asdict(info), "state_dict": state}, hashed=True)


def load_checkpoint(
    path: Path | str, architecture: Architecture | None = None
) -> tuple[nn.Module, CheckpointInfo]:
    """Rebuild a model from a checkpoint of this program.

    Args:
        path: the file.
        architecture: the file's architecture, if it is not registered.

    Returns:
        The model in evaluation mode on the CPU, and what the file says of it.

    Raises:
        CheckpointError: the file cannot be read safely, is not a checkpoint of this program, or
            its weights do not fit.
        ModelError: the file's architecture is not known.
    """
    path = Path(path)
    content = read_torch_file(path)
    if "format_version" not in content or "state_dict" not in content:
        raise CheckpointError(
            f"{path}: not a checkpoint of this program; give a foreign one as train.pretrained"
        )
    state = content.pop("state_dict")
    info = parse_info(content, path)
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: damaged checkpoint (state_dict: not tensors by name); write it again"
        )
    # A classifier of a false size could take all memory, so it is not built.
    sizes, weight = (info.num_classes, info.embedding_dim), state.get(f"{CLASSIFIER}.weight")
    if isinstance(weight, Tensor) and weight.shape != sizes:
        raise CheckpointError(
            f"{path}: damaged checkpoint (num_classes, embedding_dim: {sizes}, and the weights of "
            f"the classifier are {tuple(weight.shape)}); write it again"
        )
    model = build_model(
        architecture or info.architecture,
        num_classes=info.num_classes,
        embedding_dim=info.embedding_dim,
    )
    flaw = find_flaw(state, model.state_dict())
    if flaw is not None:
        raise CheckpointError(f"{path}: damaged checkpoint (state_dict: {flaw}); write it again")
    try:
        apply_widths(model, info.widths, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: weights do not fit {info.architecture}: {error}") from error
    match_normalisation(model, state)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: weights do not fit {info.architecture}: {detail}"
        ) from error
    return model.eval(), info


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read a file of ``torch.save`` without running anything in it.

    Numpy scalars, which torchreid stores beside the weights, are allowed; nothing else is.

    Raises:
        CheckpointError: the file is missing, damaged (its content differs from the hash that it
            carries, or an entry from its checksum), holds code, or is not a dictionary.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; give the path of a checkpoint")
    kind = kind_of_file(path)
    if kind is not None:
        raise CheckpointError(
            f"{path}: is {kind}, expected a checkpoint of PyTorch (.pt, .pth, .ckpt, .tar)"
        )
    kinds = {type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)}
    # One function under two names: numpy 2 pickles the first, numpy 1 the second.
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")]
    unreadable = "not a readable checkpoint (truncated or another format); copy it again"
    damage = find_damage(path)
    if damage is not None:
        raise CheckpointError(
            f"{path}: not a readable checkpoint (damaged: {damage}); copy it again"
        )
    try:
        with torch.serialization.safe_globals([*scalars, np.dtype, *kinds]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "WeightsUnpickler" not in str(error):
            raise CheckpointError(f"{path}: {unreadable}") from error
        raise CheckpointError(
            f"{path}: holds pickled Python objects, which can run code when they are loaded; "
            "refused. Save the weights alone: torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # damage shows as almost any exception
        raise CheckpointError(f"{path}: {unreadable}") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, expected a dictionary of weights"
        )
    return content
