"""Mean and std of colours that a file of weights keeps with them, as FastReID's do."""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from reid_edge.core.errors import CheckpointError
from reid_edge.data.images import IMAGENET_MEAN, IMAGENET_STD

Colours = tuple[float, float, float]

# FastReID's names; the values are for pixels of 0 to 255.
INPUT_STATISTICS = ("pixel_mean", "pixel_std")
LARGEST_PIXEL, DECIMALS = 255, 6


def input_statistics(path: Path, state: Mapping[str, Tensor]) -> tuple[Colours, Colours]:
    """Return mean and std of colours in [0, 1]: those in a state dictionary, or ImageNet's.

    Raises:
        CheckpointError: they are not a number for each colour.
    """
    mean, std = (
        _colours(path, name, state[name]) if name in state else default
        for name, default in zip(INPUT_STATISTICS, (IMAGENET_MEAN, IMAGENET_STD), strict=True)
    )
    return mean, std


def are_imagenets(statistics: tuple[Colours, Colours]) -> bool:
    """Tell whether mean and std are ImageNet's, to half a step of a pixel's values."""
    return all(
        abs(value - usual) * LARGEST_PIXEL <= 0.5
        for colours, others in zip(statistics, (IMAGENET_MEAN, IMAGENET_STD), strict=True)
        for value, usual in zip(colours, others, strict=True)
    )


def _colours(path: Path, name: str, pixels: Tensor) -> Colours:
    values = pixels.flatten().tolist()
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        raise CheckpointError(f"{path}: {name!r} is {values}, not a number for each colour")
    # In float32, 255 x 0.485 divided by 255 is not 0.485 again.
    red, green, blue = (round(value / LARGEST_PIXEL, DECIMALS) for value in values)
    return red, green, blue
