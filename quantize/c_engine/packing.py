"""Weights in the order in which the kernels read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantize.c_engine.engine_layers import GROUP
from quantize.c_engine.fixed_point import padded
from quantize.c_engine.network import Convolution


def dense(conv: Convolution) -> NDArray[np.int8]:
    """Return weights (N, C, rows, columns); the other groups' weights are zeros."""
    if conv.groups == 1:
        return conv.weight
    count, inside, rows, columns = conv.weight.shape
    each = count // conv.groups
    dense = np.zeros((count, inside * conv.groups, rows, columns), np.int8)
    for group in range(conv.groups):
        own = slice(group * each, (group + 1) * each)
        dense[own, group * inside : (group + 1) * inside] = conv.weight[own]
    return dense


def packed_weights(weight: NDArray[np.int8], channels: int, *, joined: bool) -> NDArray[np.int8]:
    """Order weights (N, C, rows, columns) as kernels read them.

    Args:
        weight: of a dense convolution.
        channels: bytes of an input pixel, C or above.
        joined: whether the taps of a row are one tap.

    Returns:
        int8 (N / 16, taps, bytes of a tap / 4, 16, 4): for each group of 16 output channels and
        each four bytes of the input, 64 bytes.
    """
    count, inside, rows, columns = weight.shape
    pixels = np.zeros((count, rows, columns, channels), np.int8)
    pixels[..., :inside] = weight.transpose(0, 2, 3, 1)
    taps = pixels.reshape(count, rows, -1) if joined else pixels.reshape(count, rows * columns, -1)
    # A row of seven pixels of an image stays as it is.
    whole = padded(padded(taps, 4 if taps.shape[2] == 28 else GROUP, axis=2))
    split = whole.reshape(-1, GROUP, whole.shape[1], whole.shape[2] // 4, 4)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4))
