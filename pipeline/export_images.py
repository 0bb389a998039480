"""The images of ``reid-edge export``: of any persons, without labels, in two halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.errors import DataError
from reid_edge.core.exporter import CalibrationBatches
from reid_edge.core.io import hash_file
from reid_edge.data.paths import IMAGE_SUFFIXES, existing_folder
from reid_edge.inference.embedder import EmbeddingSpace, load_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

FEWEST = 64
# Of a larger folder, so many images are taken for each half.
MOST_OF_A_HALF = 1024
CALIBRATION = 256
BATCH = 64


@dataclass(frozen=True)
class Halves:
    """Images that int8 files are calibrated on, and others that files are judged by.

    Attributes:
        calibration: image files.
        judging: image files; none has the content of one in ``calibration``.
        hashes: SHA-256 of each file in hexadecimal.
    """

    calibration: tuple[Path, ...]
    judging: tuple[Path, ...]
    hashes: Mapping[Path, str]

    def digest(self, images: Sequence[Path]) -> str:
        """Return the SHA-256 of the images' hashes in order, each followed by a line feed."""
        return sha256("".join(f"{self.hashes[image]}\n" for image in images).encode()).hexdigest()


def find_images(folder: Path) -> list[Path]:
    """Return the images of a folder at any depth, in an order that is the same everywhere.

    Raises:
        DataError: there is no such folder.
    """
    root = existing_folder(folder)
    found = [
        path
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    ]
    # By a hash of the name and not by the name, whose order is often that of persons or cameras.
    return sorted(
        found, key=lambda path: sha256(path.relative_to(root).as_posix().encode()).digest()
    )


def halve(folder: Path) -> Halves:
    """Choose images of a folder and halve them; the same files give the same halves everywhere.

    Of a large folder, a part is taken. Of files with the same content, one is taken.

    Args:
        folder: with images at any depth.

    Raises:
        DataError: there are fewer than 64 different images.
    """
    root, found = existing_folder(folder), find_images(folder)
    hashes: dict[Path, str] = {}
    for path in found[: 2 * MOST_OF_A_HALF]:
        content = hash_file(path)
        if content not in hashes.values():
            hashes[path] = content
    if len(hashes) < FEWEST:
        alike = "" if len(hashes) == len(found) else f" of {len(found)} files"
        raise DataError(
            f"{root}: has {len(hashes)} different images{alike} ({', '.join(IMAGE_SUFFIXES[:3])} "
            f"...); an export needs {FEWEST} or more"
        )
    chosen = list(hashes)
    return Halves(tuple(chosen[0::2]), tuple(chosen[1::2]), hashes)


def calibration_batches(halves: Halves, space: EmbeddingSpace) -> CalibrationBatches:
    """Load the images that int8 files are calibrated on, 256 at most.

    Raises:
        DataError: an image cannot be read.
    """
    import torch

    images = halves.calibration[:CALIBRATION]
    batches = [torch.from_numpy(batch) for batch in load_batches(space, images, BATCH)]
    return CalibrationBatches(batches, halves.digest(images), images)
