"""Backgrounds: a wall or a row of trees, a ground, things that stand about."""

from math import sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid_edge.data.synthetic.palette import Colour, scaled

# A scene is this much wider and higher than the canvas that is cut from it.
SPAN = (4.0, 1.25)
WALLS: tuple[Colour, ...] = (
    (150, 146, 138),
    (176, 166, 146),
    (118, 120, 126),
    (142, 112, 96),
    (96, 112, 88),
    (188, 192, 196),
)
GROUNDS: tuple[Colour, ...] = (
    (128, 126, 122),
    (104, 104, 108),
    (158, 150, 136),
    (112, 118, 96),
    (146, 132, 116),
)
THINGS: tuple[Colour, ...] = (
    (66, 84, 60),
    (58, 62, 70),
    (150, 60, 52),
    (70, 96, 132),
    (196, 188, 170),
    (88, 72, 58),
    (206, 178, 84),
)


def draw_scene(rng: np.random.Generator, canvas: tuple[int, int]) -> Image.Image:
    """Make up the background of a camera, ``SPAN`` times as large as ``canvas`` (width, height)."""
    width, height = round(SPAN[0] * canvas[0]), round(SPAN[1] * canvas[1])
    horizon = round(float(rng.uniform(0.34, 0.60)) * height)
    scene = Image.new("RGB", (width, height), WALLS[int(rng.integers(len(WALLS)))])
    draw = ImageDraw.Draw(scene)
    # The wall: courses of stone, or panels with windows.
    wall = WALLS[int(rng.integers(len(WALLS)))]
    draw.rectangle((0, 0, width, horizon), wall)
    if rng.random() < 0.5:
        for row in range(0, horizon, max(4, horizon // 14)):
            draw.line((0, row, width, row), scaled(wall, 0.82), 2)
    else:
        step = int(rng.uniform(0.09, 0.18) * width)
        for column in range(0, width, max(8, step)):
            glass = scaled(THINGS[1], float(rng.uniform(0.8, 1.9)))
            draw.rectangle((column, 0.1 * horizon, column + 0.6 * step, 0.75 * horizon), glass)
            draw.line((column, 0, column, horizon), scaled(wall, 0.75), 3)
    # The ground, with joints that lie closer together the farther they are.
    ground = GROUNDS[int(rng.integers(len(GROUNDS)))]
    draw.rectangle((0, horizon, width, height), ground)
    joint = scaled(ground, float(rng.uniform(0.75, 1.2)))
    for k in range(1, 9):
        depth = horizon + (height - horizon) * (k / 9) ** 2
        draw.line((0, depth, width, depth), joint, 2)
    for column in range(-width, 2 * width, max(8, width // 9)):
        vanishing = width / 2 + (column - width / 2) / sqrt(6)
        draw.line((vanishing, horizon, column, height), joint, 2)
    # Bushes, posts, signs and cars: ovals and boxes that stand about the horizon.
    for _ in range(int(rng.integers(8, 16))):
        colour = scaled(THINGS[int(rng.integers(len(THINGS)))], float(rng.uniform(0.7, 1.2)))
        middle, foot = rng.uniform(0, width), horizon + rng.uniform(-0.05, 0.18) * height
        wide = rng.uniform(0.005, 0.07) * width
        tall = rng.uniform(0.08, 0.45) * height
        paint = draw.ellipse if rng.random() < 0.35 else draw.rectangle
        paint((middle - wide, foot - tall, middle + wide, foot), colour)
    scene = scene.filter(ImageFilter.GaussianBlur(0.006 * canvas[1]))
    # Unevenness, coarse and fine: no real wall is one colour.
    coarse = rng.normal(128, 9, (max(2, height // 16), max(2, width // 16)))
    coarse_image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    slow = np.asarray(coarse_image.resize(scene.size, Image.Resampling.BICUBIC), np.float32) - 128
    fast = rng.normal(0, 7, (height, width))
    mottled = np.asarray(scene, np.float32) + (slow + fast)[..., None]
    return Image.fromarray(np.clip(mottled, 0, 255).astype(np.uint8))
