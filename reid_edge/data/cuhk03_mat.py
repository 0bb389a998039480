"""CUHK03's own file, ``cuhk-03.mat``: images and test sets in MATLAB 7.3, which is HDF5."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.aside import written_aside

# A person has up to ten images, the first five of them from the first view.
IMAGES_PER_VIEW = 5

TestSet = frozenset[tuple[int, int]]

logger = logging.getLogger(__name__)


def extract_images(mat: Path, boxes: str, folder: Path, progress: Progress | None = None) -> None:
    """Write the images as PNG, with torchreid's names, all of them or none.

    ``2_015_1_03.png`` is the third image of the 15th person of the second pair of cameras, seen
    in the pair's first view.

    Args:
        mat: the file ``cuhk-03.mat``.
        boxes: ``"detected"`` or ``"labeled"``.
        folder: where to write; does not exist yet.
        progress: called with (persons done, persons).

    Raises:
        DataError: the file cannot be read.
    """
    logger.info("extracting images, once: %s", folder)
    with _opened(mat) as content, written_aside(folder) as draft:
        pairs = [_cells(content, reference) for reference in content[boxes][0]]
        total, done = sum(len(pair) for pair in pairs), 0
        for pair, persons in enumerate(pairs, start=1):
            for person, references in enumerate(persons, start=1):
                _write_person(content, references, draft, f"{pair}_{person:03d}")
                done += 1
                if progress is not None:
                    progress(done, total)


def read_test_sets(mat: Path) -> list[TestSet]:
    """Read the 20 test sets of the classic protocol, as (pair of cameras, person), from 1.

    Raises:
        DataError: the file cannot be read.
    """
    with _opened(mat) as content:
        return [
            frozenset((int(pair), int(person)) for pair, person in _cells(content, reference))
            for reference in content["testsets"][0]
        ]


@contextmanager
def _opened(mat: Path) -> Iterator[Any]:
    try:
        with h5py.File(mat, "r") as content:
            yield content
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{mat}: cannot be read as CUHK03's MATLAB 7.3 file ({error}); download it again"
        ) from error


def _cells(content: Any, reference: Any) -> Any:
    # MATLAB stores arrays by columns, HDF5 by rows.
    return content[reference][()].T


def _write_person(content: Any, references: Any, folder: Path, prefix: str) -> None:
    for number, reference in enumerate(references, start=1):
        image = _cells(content, reference)
        # An empty cell is stored as its shape, two zeros.
        if image.ndim != 3:
            continue
        view = 1 if number <= IMAGES_PER_VIEW else 2
        Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8)).save(
            folder / f"{prefix}_{view}_{number:02d}.png"
        )
