"""Market-1501, and every data set with its folders and file names.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.names import JUNK, notes_on_distractors
from reid_edge.data.paths import existing_folder, list_images
from reid_edge.data.provenance import read_provenance
from reid_edge.data.reader import Reader
from reid_edge.data.schema import Counts, ReidData, Sample

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
WRAPPINGS = ("", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "market1501")
SUFFIXES = (".jpg", ".jpeg", ".png")
NAME = re.compile(r"^(-?\d+)_c(\d+)")


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
    # A test set alone is enough to evaluate on.
    places = ((root / wrapping, split) for split in ("train", "gallery") for wrapping in wrappings)
    base = next((place for place, split in places if (place / SPLITS[split]).is_dir()), None)
    if base is None:
        raise DataError(
            f"{root}: no folder {SPLITS['train']!r} in it, nor {SPLITS['gallery']!r}; expected the "
            f"Market-1501 layout: {', '.join(SPLITS.values())}"
        )
    provenance = read_provenance(base)
    # Junk is among the images here.
    read: dict[str, list[Sample]] = {}
    for split, name in SPLITS.items():
        folder = base / name
        if split == "train" and not folder.exists():
            continue
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; the Market-1501 layout needs it")
        files = list_images(folder, SUFFIXES)
        if not files:
            raise DataError(f"{folder}: no images in it (looked for {', '.join(SUFFIXES)})")
        read[split] = []
        for path in files:
            match = NAME.match(path.name)
            if match is None:
                raise DataError(
                    f"{path}: cannot read person and camera off the name; "
                    "expected something like 0002_c1s1_000451_03.jpg"
                )
            read[split].append(Sample(path, int(match[1]), int(match[2])))
    train, query, gallery = (
        tuple(image for image in read.get(split, ()) if image.person != JUNK) for split in SPLITS
    )
    return ReidData(
        base,
        train,
        query,
        gallery,
        protocol=provenance.protocol,
        has_cameras=provenance.has_cameras,
        junk=sum(map(len, read.values())) - len(train) - len(query) - len(gallery),
        notes=tuple(notes_on_distractors(image.path for image in (*train, *query))),
    )


MARKET1501 = Reader(
    name="market1501",
    layout="`bounding_box_train`, `query`, `bounding_box_test` with names such as "
    "`0002_c1s1_000451_03.jpg`",
    read=read_market1501,
    publication='Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015',
    # In this layout the training set or the test set may be missing.
    marks=tuple(
        f"{wrapping}{SPLITS[split]}"
        for wrapping in ("", "Market-1501-v15.09.15/")
        for split in ("train", "gallery")
    ),
    counts=(Counts(12936, 751, 3368, 750, 15913),),
    kaggle="pengcw1/market-1501",
)
