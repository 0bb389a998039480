"""Image files that are damaged."""

import io
from functools import cache
from pathlib import Path

from PIL import Image, features

from reid_edge.data.decoding import load_image
from tests.fuzz.target import Damage, Target, apply_damage, damaged

FORMATS = ("png", "jpeg", "bmp", "webp", "gif", "tiff", "ppm", *(["avif"] * features.check("avif")))


@cache
def valid(kind: str) -> bytes:
    """Return a small image file."""
    image = Image.radial_gradient("L").resize((17, 23)).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, format=kind)
    return stream.getvalue()


def run(value: tuple[int, list[Damage]], folder: Path) -> None:
    """Read the image as training and evaluation do."""
    kind = FORMATS[value[0] % len(FORMATS)]
    path = folder / "image.jpg"
    path.write_bytes(apply_damage(valid(kind), value[1]))
    load_image(path, 16, 8)


TARGET = Target(
    "images",
    damaged(),
    run,
    known=[
        (number, [("cut", at, b"x")]) for number in range(len(FORMATS)) for at in (0, 9, 100, 300)
    ],
)
