"""Cloth and its patterns."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_edge.data.synthetic.palette import Colour

# What a shape can be filled with: a colour, or an image as large as the canvas.
Fill = Colour | Image.Image
Floats = NDArray[np.float32]


class Pattern(StrEnum):
    """The shape of the second colour on a cloth."""

    PLAIN = "plain"
    STRIPES = "horizontal stripes"
    PINSTRIPES = "vertical stripes"
    CHECK = "check"
    DOTS = "dots"
    YOKE = "yoke"


@dataclass(frozen=True)
class Cloth:
    """A cloth: two colours, a pattern, and its period as a fraction of body height."""

    colour: Colour
    second: Colour
    pattern: Pattern
    period: float


def cloth_fill(
    cloth: Cloth, size: tuple[int, int], origin: tuple[float, float], pixels: float
) -> Fill:
    """Return what to fill a garment with.

    Args:
        cloth: the cloth.
        size: width and height of the canvas.
        origin: the pixel where the pattern is anchored, so that it moves with the body.
        pixels: body height in pixels.
    """
    if cloth.pattern is Pattern.PLAIN:
        return cloth.colour
    across = (np.arange(size[0], dtype=np.float32) - origin[0])[None, :] / (cloth.period * pixels)
    down = (np.arange(size[1], dtype=np.float32) - origin[1])[:, None] / (cloth.period * pixels)
    # How much of the second colour there is, 0 to 1.
    match cloth.pattern:
        case Pattern.STRIPES:
            share = _bars(down, 0.42)
        case Pattern.PINSTRIPES:
            share = _bars(across, 0.35)
        case Pattern.CHECK:
            share = np.float32(0.5) * (_bars(across, 0.5) + _bars(down, 0.5))
        case Pattern.DOTS:
            share = _bars(across, 0.5) * _bars(down, 0.5)
        case Pattern.YOKE:  # one broad block of colour: shoulders and chest differ from the rest
            share = (down < 1.6).astype(np.float32)
    share = np.broadcast_to(share, (size[1], size[0]))
    first = np.asarray(cloth.colour, np.float32)
    second = np.asarray(cloth.second, np.float32)
    return Image.fromarray((first + share[..., None] * (second - first)).astype(np.uint8))


def _bars(distance: Floats, share: float) -> Floats:
    return ((distance % 1.0) < share).astype(np.float32)
