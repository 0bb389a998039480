"""Real multipliers as the integers that the engine's kernels multiply and shift by.

A sum of products becomes a byte in one way on all processors::

    t = saturate16(sum >> shift)
    q = saturate8(zero_point + ((t * multiplier + 2**14) >> 15))

The shift leaves ``t`` 8 to 16 steps for each step of the output: what is cut off is a sixteenth of
a step at most, and the multiplier, of 11 to 12 bits, is as exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Steps of the 16-bit number for each step of the output are at least 2 ** _EXTRA_BITS.
_EXTRA_BITS = 3
_LARGEST_MULTIPLIER = 2**15 - 1
_LARGEST_SUM = 2**31 - 1
_BYTE = 255
# A multiplier of another tensor that is added to a sum keeps this accuracy: half a step in 128.
SMALLEST_RESIDUAL = 128


@dataclass(frozen=True)
class Rescaling:
    """From the sums of a layer's products to bytes, for each output channel (N,).

    Attributes:
        weight: int8, with the output channels first; those that would overflow are halved.
        bias: int32, with the input's zero point and the rounding of the shift in it.
        shift: int32.
        multiplier: int16.
        residual: int32, what a step of the tensor that is added counts; zeros if there is none.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]
    multiplier: NDArray[np.int16]
    residual: NDArray[np.int32]


def shift_and_multiplier(factor: float) -> tuple[int, int]:
    """Return a shift and a multiplier that stand for a real factor of 0 or above.

    A factor of 1 or above cannot be represented: the largest one is taken. That is right for a
    layer whose input is always zero, the only one that has such a factor.
    """
    if not factor > 0:
        return 0, 0
    shift = int(np.clip(np.floor(-np.log2(factor)) - _EXTRA_BITS, 0, 31))
    multiplier = round(factor * 2.0 ** (15 + shift))
    return shift, min(multiplier, _LARGEST_MULTIPLIER)


def rescaling(
    weight: NDArray[np.int8],
    scale: NDArray[np.float64],
    bias: NDArray[np.float64],
    *,
    input_zero: int,
    output_scale: float,
    residual: tuple[float, int] | None = None,
) -> Rescaling:
    """Return the integers of a layer with weights.

    Args:
        weight: int8 (N, ...).
        scale: of a product of input and weight, for each channel (N,).
        bias: real numbers (N,).
        input_zero: zero point of the input.
        output_scale: scale of the output.
        residual: scale and zero point of a tensor that is added.
    """
    count = len(weight)
    rounded = weight.reshape(count, -1).astype(np.int64)
    found: dict[str, list[int]] = {"bias": [], "shift": [], "multiplier": [], "residual": []}
    for channel in range(count):
        step = float(scale[channel])
        while True:
            row = rounded[channel]
            shift, multiplier = shift_and_multiplier(step / output_scale)
            added, offset = 0, 0
            if residual is not None:
                added = round(residual[0] / step) if step else 0
                offset = -added * residual[1]
            start = round(float(bias[channel]) / step) if step else 0
            total = start - input_zero * int(row.sum()) + offset
            bound = abs(total) + _BYTE * (int(np.abs(row).sum()) + added) + (1 << shift)
            if bound <= _LARGEST_SUM and added <= _LARGEST_MULTIPLIER:
                break
            # Weights so small beside the bias, or the tensor that is added, hardly count.
            rounded[channel] = np.round(row / 2)
            step *= 2
        found["bias"].append(total + (1 << shift >> 1))
        found["shift"].append(shift)
        found["multiplier"].append(multiplier)
        found["residual"].append(added)
    return Rescaling(
        rounded.astype(np.int8).reshape(weight.shape),
        np.array(found["bias"], np.int32),
        np.array(found["shift"], np.int32),
        np.array(found["multiplier"], np.int16),
        np.array(found["residual"], np.int32),
    )


def residual_fits(scale: NDArray[np.float64], residual_scale: float) -> bool:
    """Return whether a tensor can be added to a layer's sums without a loss of accuracy."""
    return bool((residual_scale / np.maximum(scale, 1e-30) >= SMALLEST_RESIDUAL).all())


def sum_bits(factors: list[float]) -> int:
    """Return the bits behind the point with which all factors fit into 16 bits with a sign."""
    largest = max(*factors, 1e-9)
    return int(np.clip(np.floor(np.log2(_LARGEST_MULTIPLIER / largest)), 0, 22))


@dataclass(frozen=True)
class WideFactor:
    """A real factor for 64-bit sums: ``((sum >> before) * multiplier + half) >> after``."""

    before: int
    multiplier: int
    after: int


def wide_factor(factor: float, bound: int) -> WideFactor:
    """Return the integers for a positive factor.

    Args:
        factor: real.
        bound: largest absolute sum.
    """
    before = max(0, bound.bit_length() - 31)
    scaled = max(factor, 1e-300) * 2.0**before
    after = int(np.clip(29 - np.floor(np.log2(scaled)), 1, 62))
    return WideFactor(before, min(round(scaled * 2.0**after), 2**31 - 1), after)


def padded(values: NDArray[Any], multiple: int = 16, axis: int = 0) -> NDArray[Any]:
    """Return an array with zeros at the end of an axis, up to a multiple."""
    missing = -values.shape[axis] % multiple
    widths = [(0, missing if place == axis else 0) for place in range(values.ndim)]
    return np.pad(values, widths)
