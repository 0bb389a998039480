"""Images without identities that are set apart for measuring, whole blocks of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.data.schema import ReidData, Sample

FEWEST_IMAGES = 64
# The ten nearest images of one are not all the others.
FEWEST_HELD_OUT = 16
# Distances between all of them are computed after every stage.
MOST_HELD_OUT = 5000
# Of all blocks, so many are drawn; a block has so many images, or tracks, at least.
DRAWN_BLOCKS = 8
FEWEST_OF_BLOCK = {"none": 8, "tracks": 2}

_DIGITS = re.compile(r"(\d+)")


def hold_out(data: ReidData, share: float, seed: int) -> ReidData:
    """Set images of a set without identities apart, to measure on.

    Images, or whole tracks, are put into the order of their cameras, frames and names, and blocks
    of that order are set apart. So images that are nearly the same, such as those of one person in
    a row of frames, seldom are in both parts.

    Args:
        data: its training set is divided.
        share: of the images, above 0 and below 1. At most 5,000 images are set apart.
        seed: the draw is a function of it.

    Returns:
        The same data; ``query`` has what was set apart.

    Raises:
        DataError: there are fewer than 64 images, or fewer than 16 or all of them would be set
            apart.
    """
    check_enough(data, len(data.train))
    units = _in_order(data)
    share = min(share, MOST_HELD_OUT / len(data.train))
    count = min(int(np.ceil(DRAWN_BLOCKS / share)), len(units) // FEWEST_OF_BLOCK[data.labels])
    edges = np.linspace(0, len(units), max(count, 2) + 1).astype(int)
    blocks = [
        [image for unit in units[start:end] for image in unit]
        for start, end in pairwise(edges.tolist())
    ]
    apart: set[Sample] = set()
    for number in np.random.default_rng(seed).permutation(len(blocks))[1:]:
        if len(apart) >= share * len(data.train):
            break
        apart.update(blocks[number])
    if len(apart) < FEWEST_HELD_OUT or len(data.train) - len(apart) < FEWEST_HELD_OUT:
        raise DataError(
            f"{data.root}: {len(apart)} of {len(data.train)} images would be set apart to measure "
            f"on; each part needs {FEWEST_HELD_OUT}: give data.test_share another value, or more "
            "images"
        )
    return replace(
        data,
        train=tuple(image for image in data.train if image not in apart),
        query=tuple(image for image in data.train if image in apart),
    )


def check_enough(data: ReidData, different: int) -> None:
    """Check that there are enough images without identities.

    Args:
        data: the set, for the message.
        different: number of images whose contents differ.

    Raises:
        DataError: there are fewer than 64.
    """
    images = len(data.images())
    if different >= FEWEST_IMAGES:
        return
    found = (
        f"{different} images"
        if different == images
        else (f"{images} files of {different} different images")
    )
    raise DataError(
        f"{data.root}: {found}; without identities a model learns and is measured on "
        f"{FEWEST_IMAGES} different images or more"
    )


def _in_order(data: ReidData) -> list[list[Sample]]:
    """Return the images, or the images of each track, in the order of time as far as is known."""

    def place(image: Sample) -> tuple[object, ...]:
        parts = _DIGITS.split(image.path.relative_to(data.root).as_posix())
        # Numbers by value, so that image 10 comes behind image 9.
        name = [int(part) if index % 2 else part for index, part in enumerate(parts)]
        return image.camera, -1 if image.frame is None else image.frame, name

    ordered: Sequence[Sample] = sorted(data.train, key=place)
    if data.labels == "none":
        return [[image] for image in ordered]
    units: dict[int, list[Sample]] = {}
    for image in ordered:
        units.setdefault(image.person, []).append(image)
    return list(units.values())
