"""Cameras: where they look from, and how they colour, blur and cut out what they see."""

from dataclasses import dataclass
from enum import StrEnum
from math import pi, radians

import numpy as np
from PIL import Image

from reid_edge.data.synthetic.randomness import Stream, generator
from reid_edge.data.synthetic.scene import draw_scene

# The first headings differ as much as headings can, so that even two cameras see front and back.
HEADINGS = (10, 165, 75, 215, 320, 120, 270, 40)


class Obstacle(StrEnum):
    """What stands before the camera and hides a part of those who pass."""

    NONE = "none"
    POLE = "pole"
    RAIL = "rail"
    WALL = "wall"


@dataclass(frozen=True)
class Camera:
    """A camera.

    Args:
        heading: in which direction most people walk; see ``View``.
        pitch: how far it looks down, in radians.
        zoom: body height as a fraction of image height.
        gains: what it does to red, green and blue.
        gamma: exponent on the levels; above 1 darkens.
        saturation: 1 leaves colours as they are, 0 makes them grey.
        haze: share of the image that is veiled.
        blur: radius in pixels of an image 128 high.
        noise: standard deviation of the sensor's noise, in grey levels.
        quality: of JPEG.
        light: side from which the light comes, -1 (left) to 1 (right), and how hard it is.
        obstacle: what may stand in the way.
        scene: background, larger than a canvas.
    """

    heading: float
    pitch: float
    zoom: float
    gains: tuple[float, float, float]
    gamma: float
    saturation: float
    haze: float
    blur: float
    noise: float
    quality: int
    light: float
    obstacle: Obstacle
    scene: Image.Image


@dataclass(frozen=True)
class Passage:
    """What stays the same while one person passes one camera.

    Args:
        heading: of this person.
        exposure: factor on all levels; the weather, the time of day.
        gains: factors on red, green and blue; likewise.
        column: of the scene, 0 to 1.
    """

    heading: float
    exposure: float
    gains: tuple[float, float, float]
    column: float


def make_camera(seed: int, number: int, canvas: tuple[int, int]) -> Camera:
    """Make up a camera.

    Args:
        seed: of the data set.
        number: from 0.
        canvas: width and height of what is drawn on.
    """
    rng = generator(seed, Stream.CAMERA, camera=number)
    warmth = rng.normal(0.0, 0.05)
    return Camera(
        heading=radians(HEADINGS[number % len(HEADINGS)] + rng.uniform(-15, 15)),
        pitch=radians(rng.uniform(4, 22)),
        zoom=float(rng.uniform(0.90, 0.97)),
        gains=(1 + float(warmth), 1 + float(rng.normal(0, 0.02)), 1 - float(warmth)),
        gamma=float(np.exp(rng.normal(0.0, 0.10))),
        saturation=float(rng.uniform(0.7, 1.1)),
        haze=float(rng.uniform(0.0, 0.12)),
        blur=float(rng.uniform(0.2, 0.7)),
        noise=float(rng.uniform(2.0, 6.0)),
        quality=int(rng.integers(60, 93)),
        light=float(rng.uniform(-1, 1)),
        obstacle=list(Obstacle)[int(rng.integers(len(Obstacle)))],
        scene=draw_scene(rng, canvas),
    )


def make_passage(rng: np.random.Generator, camera: Camera) -> Passage:
    """Make up how a person passes a camera; one in four walks the other way."""
    turn = pi if rng.random() < 0.25 else 0.0
    warmth = rng.normal(0.0, 0.02)
    return Passage(
        heading=camera.heading + turn + float(rng.normal(0, radians(18))),
        exposure=float(np.exp(rng.normal(0.0, 0.08))),
        gains=(1 + float(warmth), 1.0, 1 - float(warmth)),
        column=float(rng.random()),
    )
