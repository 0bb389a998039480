"""Mean and std of colours that a file holds beside its weights, as FastReID's files do."""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import IMAGENET_MEAN, IMAGENET_STD, Colours

# FastReID's names; the values are for pixels from 0 to 255.
INPUT_STATISTICS = ("pixel_mean", "pixel_std")
LARGEST_PIXEL, DECIMALS = 255, 6


def input_statistics(path: Path, state: Mapping[str, Tensor]) -> tuple[Colours, Colours]:
    """Return mean and std of colours in [0, 1]: those in a state dictionary, or ImageNet's.

    Raises:
        CheckpointError: they are not a number for each colour.
    """
    found: list[Colours] = []
    for name, default in zip(INPUT_STATISTICS, (IMAGENET_MEAN, IMAGENET_STD), strict=True):
        if name not in state:
            found.append(default)
            continue
        values = state[name].flatten().tolist()
        if len(values) != 3 or not all(math.isfinite(value) for value in values):
            raise CheckpointError(f"{path}: {name!r} is {values}, not a number for each colour")
        # In float32, 255 x 0.485 divided by 255 is not exactly 0.485.
        red, green, blue = (round(value / LARGEST_PIXEL, DECIMALS) for value in values)
        found.append((red, green, blue))
    return found[0], found[1]


def are_imagenets(statistics: tuple[Colours, Colours]) -> bool:
    """Tell whether mean and std are ImageNet's, up to half a grey level of 255."""
    return all(
        abs(value - usual) * LARGEST_PIXEL <= 0.5
        for colours, others in zip(statistics, (IMAGENET_MEAN, IMAGENET_STD), strict=True)
        for value, usual in zip(colours, others, strict=True)
    )
