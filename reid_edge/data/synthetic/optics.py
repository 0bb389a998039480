"""From what was drawn to what the camera delivers: light, lens, sensor."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from reid_edge.data.synthetic.camera import Camera, Passage

# Everything is drawn this many times larger and then reduced, which smooths the edges.
SUPERSAMPLING = 2
# The height for which a camera's blur is meant.
NOMINAL_HEIGHT = 128


def photograph(
    drawn: Image.Image,
    mask: Image.Image,
    camera: Camera,
    passage: Passage,
    rng: np.random.Generator,
) -> Image.Image:
    """Return the image that the camera makes.

    Args:
        drawn: RGB, ``SUPERSAMPLING`` times the size of the image.
        mask: of the same size, 255 where there is a person.
        camera: the camera.
        passage: light while this person passes.
        rng: for motion, folds of the clothes and the sensor's noise.
    """
    small = drawn.reduce(SUPERSAMPLING)
    person = np.asarray(mask.reduce(SUPERSAMPLING), np.float32)[..., None] / 255
    # The light on a person is about 1: a lit side, folds of cloth.
    across = np.linspace(-1, 1, small.width, dtype=np.float32)[None, :]
    folds = Image.fromarray(rng.integers(100, 156, (18, 7), dtype=np.uint8))
    depth = np.asarray(folds.resize(small.size, Image.Resampling.BICUBIC), np.float32) / 128
    down = np.linspace(1.08, 0.92, small.height, dtype=np.float32)[:, None]
    on_person = ((1 + 0.25 * camera.light * across) * down * depth).astype(np.float32)
    light = 1 + person * (on_person[..., None] - 1)
    lit = np.clip(np.asarray(small, np.float32) * light, 0, 255).astype(np.uint8)
    scale = small.height / NOMINAL_HEIGHT
    radius = camera.blur * scale * float(rng.uniform(0.7, 1.3))
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(radius))
    if rng.random() < 0.2:  # motion
        blurred = blurred.filter(ImageFilter.BoxBlur((scale * float(rng.uniform(0.5, 1.8)), 0)))
    return develop(np.asarray(blurred, np.float32), camera, passage, rng)


def develop(
    levels: NDArray[np.float32], camera: Camera, passage: Passage, rng: np.random.Generator
) -> Image.Image:
    """Return what a camera's electronics make of light (H, W, 3), 0 to 255.

    Args:
        levels: RGB.
        camera: the camera.
        passage: the light at the moment.
        rng: for the sensor's noise.
    """
    # Saturation, white balance and exposure, gamma, haze.
    grey = levels.mean(axis=2, keepdims=True)
    levels = grey + np.float32(camera.saturation) * (levels - grey)
    gains = np.multiply(camera.gains, passage.gains) * passage.exposure / 255
    levels = np.clip(levels * gains.astype(np.float32), 0, 1) ** np.float32(camera.gamma)
    levels = np.float32(255 * (1 - camera.haze)) * levels + np.float32(255 * camera.haze * 0.7)
    levels += camera.noise * rng.standard_normal(levels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
