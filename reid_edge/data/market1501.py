"""Market-1501 and every data set that is laid out and named as it is.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.paths import existing_folder, list_images
from reid_edge.data.prepared_record import has_cameras, recorded_protocol
from reid_edge.data.schema import ReidData, Sample

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
WRAPPINGS = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501")
SUFFIXES = (".jpg", ".jpeg", ".png")
NAME = re.compile(r"^(-?\d+)_c(\d+)")
JUNK = -1


def read_market1501(root: Path) -> ReidData:
    """Read a folder in the Market-1501 layout.

    Person and camera come from the file name: ``0002_c1s1_000451_03.jpg`` is person 2, camera 1.
    Images of person -1 are junk and dropped; person 0 are distractors and stay in the gallery.

    Args:
        root: the folder with ``bounding_box_train``, ``query`` and ``bounding_box_test``, or one
            that wraps it the way torchreid does. Where the first is missing there is nothing to
            train on.

    Raises:
        DataError: a folder is missing or empty, or a name cannot be read.
    """
    return read_market_layout(root, WRAPPINGS)


def read_market_layout(root: Path, wrappings: Sequence[str]) -> ReidData:
    """Read a folder in the Market-1501 layout that may be wrapped in others.

    In a folder that ``reid-edge prepare`` wrote, the protocol is that of the data set that it
    was prepared from.

    Args:
        root: where to begin.
        wrappings: paths below ``root`` to look at, in this order; ``""`` is ``root`` itself.

    Raises:
        DataError: as `read_market1501`.
    """
    root = existing_folder(root)
    base = _find_base(root, wrappings)
    train, query, gallery = (base / SPLITS[split] for split in ("train", "query", "gallery"))
    return ReidData(
        base,
        _read_split(train) if train.exists() else (),
        _read_split(query),
        _read_split(gallery),
        protocol=recorded_protocol(base),
        has_cameras=has_cameras(base),
    )


def _find_base(root: Path, wrappings: Sequence[str]) -> Path:
    # A test set alone is enough to measure on.
    for split in ("train", "gallery"):
        for wrapping in wrappings:
            if (root / wrapping / SPLITS[split]).is_dir():
                return root / wrapping
    raise DataError(
        f"{root}: no folder {SPLITS['train']!r} in it, nor {SPLITS['gallery']!r}; expected the "
        f"Market-1501 layout: {', '.join(SPLITS.values())}"
    )


def _read_split(folder: Path) -> tuple[Sample, ...]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the Market-1501 layout needs it")
    files = list_images(folder, SUFFIXES)
    if not files:
        raise DataError(f"{folder}: no images in it (looked for {', '.join(SUFFIXES)})")
    images = (_parse(path) for path in files)
    return tuple(image for image in images if image.person != JUNK)


def _parse(path: Path) -> Sample:
    match = NAME.match(path.name)
    if match is None:
        raise DataError(
            f"{path}: cannot read person and camera off the name; "
            "expected something like 0002_c1s1_000451_03.jpg"
        )
    return Sample(path, int(match[1]), int(match[2]))
