"""The files of CUHK03: ``cuhk-03.mat``, the new protocol's lists, and torchreid's splits."""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.packages import import_package
from reid_edge.core.progress import Progress
from reid_edge.data.readers.mat5 import read_mat5
from reid_edge.data.readers.torchreid_splits import Names, read_torchreid_splits

# A person has up to ten images, the first five of them from the first view.
IMAGES_PER_VIEW = 5
# The largest image of CUHK03 has some 300 KiB, all of them some 1 GiB.
MOST_BYTES, MOST_BYTES_IN_ALL = 4 * 2**20, 16 * 2**30
# What is read of a protocol's file.
KEYS = ("filelist", "train_idx", "query_idx", "gallery_idx")

TestSet = frozenset[tuple[int, int]]

logger = logging.getLogger(__name__)


def extract_images(mat: Path, boxes: str, folder: Path, progress: Progress | None = None) -> None:
    """Write the images of ``cuhk-03.mat`` as PNG, with torchreid's names, all of them or none.

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
        pairs = [_cells(content, reference) for reference in _dataset(content, boxes)[0]]
        total, done, room = sum(len(pair) for pair in pairs), 0, MOST_BYTES_IN_ALL
        for pair, persons in enumerate(pairs, start=1):
            for person, references in enumerate(persons, start=1):
                for number, reference in enumerate(references, start=1):
                    image = _cells(content, reference)
                    room -= image.nbytes
                    if room < 0:
                        raise DataError(f"{mat}: its images take more than 16 GiB; get it again")
                    if image.ndim != 3:  # an empty cell is stored as its shape, two zeros
                        continue
                    view = 1 if number <= IMAGES_PER_VIEW else 2
                    name = f"{pair}_{person:03d}_{view}_{number:02d}.png"
                    pixels = np.ascontiguousarray(image, dtype=np.uint8)
                    Image.fromarray(pixels).save(draft / name)
                done += 1
                if progress is not None:
                    progress(done, total)


def read_new_protocol(base: Path, boxes: str) -> tuple[Names, Names, Names]:
    """Read the names of the images for training, query and gallery.

    Args:
        base: the folder with ``cuhk03_new_protocol_config_<boxes>.mat`` or torchreid's
            ``splits_new_<boxes>.json``.
        boxes: ``"detected"`` or ``"labeled"``.

    Raises:
        DataError: neither file is there, or it cannot be read.
    """
    mat = base / f"cuhk03_new_protocol_config_{boxes}.mat"
    splits = base / f"splits_new_{boxes}.json"
    if not mat.is_file() and splits.is_file():
        return read_torchreid_splits(splits, "CUHK03")[0]
    if not mat.is_file():
        raise DataError(
            f"{base}: neither {mat.name} nor {splits.name}; the first is in "
            "github.com/zhunzhong07/person-re-ranking, folder evaluation/data/CUHK03"
        )
    try:
        content = read_mat5(mat, KEYS)
        names = [str(name) for name in content["filelist"]]
        train, query, gallery = (
            # MATLAB counts from 1.
            [names[int(index) - 1] for index in content[key]]
            for key in KEYS[1:]
        )
    except DataError:
        raise
    # What is raised depends on the damage.
    except Exception as error:
        raise DataError(
            f"{mat}: cannot be read as a protocol of CUHK03 ({error}); download it again"
        ) from error
    return train, query, gallery


def read_classic_test_sets(base: Path, boxes: str, release: Path | None) -> list[TestSet]:
    """Read the 20 test sets of the classic protocol, as (pair of cameras, person), from 1.

    Args:
        base: the folder with torchreid's ``splits_classic_<boxes>.json``, which need not be there.
        boxes: ``"detected"`` or ``"labeled"``.
        release: the file ``cuhk-03.mat``, if it is there.

    Raises:
        DataError: neither file is there, or it cannot be read.
    """
    path = base / f"splits_classic_{boxes}.json"
    if path.is_file():
        test_sets = []
        for _, query, _ in read_torchreid_splits(path, "CUHK03"):
            matches = {name: re.match(r"(\d)_(\d{3})_", name) for name in query}
            other = next((name for name, match in matches.items() if match is None), None)
            if other is not None:
                raise DataError(f"{path}: {other!r} is no image of CUHK03; expected 1_001_1_01.png")
            found = (match for match in matches.values() if match is not None)
            test_sets.append(frozenset((int(match[1]), int(match[2])) for match in found))
        return test_sets
    if release is None:
        raise DataError(
            f"{base}: neither cuhk-03.mat nor {path.name}, which have the classic splits"
        )
    with _opened(release) as content:
        return [
            frozenset((int(pair), int(person)) for pair, person in _cells(content, reference))
            for reference in _dataset(content, "testsets")[0]
        ]


@contextmanager
def _opened(mat: Path) -> Iterator[Any]:
    """Open a MATLAB 7.3 file, which is HDF5."""
    h5py = import_package("h5py", extra="datasets", needed_by=mat, error=DataError)
    try:
        with h5py.File(mat, "r") as content:
            yield content
    except DataError:
        raise
    # h5py raises many kinds of errors on damaged files.
    except Exception as error:
        raise DataError(
            f"{mat}: cannot be read as CUHK03's MATLAB 7.3 file ({error}); download it again"
        ) from error


def _cells(content: Any, reference: Any) -> Any:
    """Return what a cell refers to; MATLAB stores arrays by columns, HDF5 by rows."""
    return _dataset(content, reference)[()].T


def _dataset(content: Any, key: Any) -> Any:
    """Return a dataset by name or reference, if it is in the file and as small as CUHK03's.

    In HDF5 a link, the storage of a dataset or the parts of a virtual one can be any other file,
    and a few bytes can claim terabytes, also for a chunk that is larger than its dataset.
    """
    link = content.get(key, getlink=True) if isinstance(key, str) else None
    if link is not None and type(link).__name__ != "HardLink":
        raise DataError(f"{content.filename}: {key} is a link; expected the data of CUHK03")
    found = content[key]
    if found.file.filename != content.filename or found.external or found.is_virtual:
        raise DataError(f"{content.filename}: {found.name} has its data in another file")
    if max(found.nbytes, math.prod(found.chunks or ()) * found.dtype.itemsize) > MOST_BYTES:
        raise DataError(
            f"{content.filename}: {found.name} claims more than {MOST_BYTES >> 20} MiB, more than "
            "any image of CUHK03; get the file again"
        )
    return found
