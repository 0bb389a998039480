"""What is wrong with the tensors of a file, before they become a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def find_flaw(state: Mapping[Any, Any], own: Mapping[str, Tensor]) -> str | None:
    """Return why tensors cannot be a model's weights, as a clause; None if they can.

    Args:
        state: what a file holds as tensors by name.
        own: the model's tensors; those of integers, such as BatchNorm's counters, may be integers.
    """
    for name, value in state.items():
        flaw = _flaw_of(name, value, own.get(name))
        if flaw is not None:
            return f"{name!r} {flaw}" if isinstance(name, str) else flaw
    # Biases and shifts are zero in many models, the weights of all layers in none.
    matrices = [value for value in state.values() if value.ndim > 1 and value.numel()]
    if matrices and not any(bool(value.any()) for value in matrices):
        return "the weights of all layers are zero"
    return None


def _flaw_of(name: object, value: object, own: Tensor | None) -> str | None:
    if not isinstance(name, str):
        return f"a tensor's name is of type {type(name).__name__}, expected text"
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}, expected a tensor"
    if value.is_quantized:
        return "is a quantized tensor, expected floating point"
    if value.layout != torch.strided or value.is_nested:
        return "is a sparse or nested tensor, expected a dense one"
    if value.device.type == "meta":
        return "has a shape and no values (device meta)"
    if own is not None and not own.dtype.is_floating_point:
        return None
    if not value.dtype.is_floating_point:
        kind = str(value.dtype).removeprefix("torch.")
        return f"has values of type {kind}, expected floating point"
    # A tensor may repeat its values, and so claim any size.
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "claims to be larger than its values in the file"
    if not bool(torch.isfinite(value.float()).all()):
        return "has values that are NaN or infinite"
    return None
