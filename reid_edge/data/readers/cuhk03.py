"""CUHK03, new and classic protocol, detected and labelled boxes.

Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification", CVPR 2014
(the images and the classic protocol); Zhong et al., "Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017 (the new protocol). Folders, names and splits are torchreid's.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.paths import find_base
from reid_edge.data.reader import Reader
from reid_edge.data.readers.cuhk03_files import (
    extract_images,
    read_classic_test_sets,
    read_new_protocol,
)
from reid_edge.data.readers.market1501 import SPLITS, read_market_layout
from reid_edge.data.schema import Counts, ReidData, Sample

Boxes = Literal["detected", "labelled"]

# The files of the data set spell it the American way.
SPELLING = {"detected": "detected", "labelled": "labeled"}
WRAPPINGS = ("cuhk03", "CUHK03", "archive", "CUHK03-NP", "cuhk03-np")
RELEASE = ("cuhk03_release/cuhk-03.mat", "cuhk-03.mat")
NAME = re.compile(r"^([1-5])_(\d{3})_([12])_(\d{2})\.png$")
PERSONS_PER_PAIR = 1000


def read_cuhk03(
    root: Path, *, boxes: Boxes = "detected", progress: Progress | None = None
) -> ReidData:
    """Read CUHK03 with the new protocol: 767 identities to train on, 700 to test on.

    Person 2015 is the 15th of the second pair of cameras, and the camera is the view, 1 or 2.

    Args:
        root: the folder with ``cuhk03_new_protocol_config_detected.mat`` (or ``_labeled``), or
            torchreid's ``splits_new_detected.json``, and with ``images_detected`` or
            ``cuhk03_release/cuhk-03.mat``, whose images are then extracted once into
            ``images_detected``; or CUHK03-NP, where ``detected`` has the Market-1501 layout; or
            a folder that wraps one of these.
        boxes: of a detector, or drawn by hand.
        progress: called while images are extracted.

    Raises:
        DataError: a file is missing or broken.
    """
    base = _find_base(root, boxes)
    if _is_market_layout(base, boxes):
        return read_market_layout(base / SPELLING[boxes], ("",))
    folder = _image_folder(base, boxes, progress)
    train, query, gallery = read_new_protocol(base, SPELLING[boxes])
    there = {path.name for path in folder.iterdir()}
    return ReidData(
        base,
        _images(folder, train, there),
        _images(folder, query, there),
        _images(folder, gallery, there),
    )


def read_cuhk03_classic(
    root: Path, *, boxes: Boxes = "detected", split: int = 0, progress: Progress | None = None
) -> ReidData:
    """Read CUHK03 with the classic protocol: 100 identities to test on, in 20 random splits.

    As in torchreid, query and gallery are both all images of the test identities, and the set
    is evaluated by single gallery shot. Published figures are means over the 20 splits.

    Args:
        root: as for `read_cuhk03`; the splits are those of ``cuhk-03.mat``, or of torchreid's
            ``splits_classic_detected.json`` (or ``_labeled``).
        boxes: of a detector, or drawn by hand.
        split: from 0 to 19.
        progress: called while images are extracted.

    Raises:
        DataError: a file is missing or broken, or there is no such split.
    """
    base = _find_base(root, boxes)
    folder = _image_folder(base, boxes, progress)
    test_sets = read_classic_test_sets(base, SPELLING[boxes], _find_release(base))
    if not 0 <= split < len(test_sets):
        raise DataError(f"CUHK03 has no classic split {split}; choose 0 to {len(test_sets) - 1}")
    names = {path.name for path in folder.iterdir() if NAME.match(path.name)}
    images = _images(folder, sorted(names), names)
    persons = {pair * PERSONS_PER_PAIR + person for pair, person in test_sets[split]}
    test = tuple(image for image in images if image.person in persons)
    train = tuple(image for image in images if image.person not in persons)
    if not train or not test:
        raise DataError(f"{folder}: no images of the classic split {split} in it")
    return ReidData(base, train, test, test, protocol="single_gallery_shot")


def _find_base(root: Path, boxes: Boxes) -> Path:
    """Find the folder with the images or ``cuhk-03.mat``, or CUHK03-NP's."""

    def is_base(folder: Path) -> bool:
        images = (folder / f"images_{SPELLING[boxes]}").is_dir()
        return images or bool(_find_release(folder)) or _is_market_layout(folder, boxes)

    return find_base(
        root, WRAPPINGS, is_base, f"CUHK03: {RELEASE[0]} or images_{SPELLING[boxes]} in it"
    )


def _is_market_layout(base: Path, boxes: Boxes) -> bool:
    folder = base / SPELLING[boxes]
    return any((folder / SPLITS[split]).is_dir() for split in ("train", "gallery"))


def _find_release(base: Path) -> Path | None:
    return next((base / name for name in RELEASE if (base / name).is_file()), None)


def _image_folder(base: Path, boxes: Boxes, progress: Progress | None) -> Path:
    """Return the folder with the images; extract them if it is not there."""
    folder = base / f"images_{SPELLING[boxes]}"
    if folder.is_dir():
        return folder
    release = _find_release(base)
    if release is None:
        raise DataError(
            f"{base}: CUHK03-NP has the new protocol alone; the classic one needs {RELEASE[0]}"
        )
    extract_images(release, SPELLING[boxes], folder, progress)
    return folder


def _images(folder: Path, names: Iterable[str], there: set[str]) -> tuple[Sample, ...]:
    """Read person and camera off the names; all of them must be among those that are there."""
    images = []
    for name in names:
        match = NAME.match(name)
        if match is None:
            raise DataError(f"{folder}: {name!r} is no image of CUHK03; expected 1_001_1_01.png")
        if name not in there:
            raise DataError(
                f"{folder / name}: no such image, but the protocol lists it; remove the folder "
                f"{folder.name} to have it extracted again from cuhk-03.mat"
            )
        person = int(match[1]) * PERSONS_PER_PAIR + int(match[2])
        images.append(Sample(folder / name, person, int(match[3])))
    return tuple(sorted(images))


PUBLICATION = (
    'Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification", '
    'CVPR 2014; new protocol: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal '
    'Encoding", CVPR 2017'
)
LAYOUT = "`cuhk03_release/cuhk-03.mat`, or torchreid's `images_{}`, with {}"
NEW, CLASSIC = "the new protocol's lists; or CUHK03-NP", "the 20 classic splits"
KAGGLE = "priyanagda/cuhk03"


def _marks(boxes: Boxes) -> tuple[str, ...]:
    spelling = SPELLING[boxes]
    return (
        f"images_{spelling}", f"{spelling}/{SPLITS['train']}", f"{spelling}/{SPLITS['gallery']}",
    )  # fmt: skip


DETECTED = Reader(
    name="cuhk03-detected",
    layout=LAYOUT.format("detected", NEW),
    read=partial(read_cuhk03, boxes="detected"),
    publication=PUBLICATION,
    # With images of both kinds of boxes in it, the file is read as this one.
    marks=("cuhk-03.mat", "cuhk03_release/cuhk-03.mat", *_marks("detected")),
    extracts=True,
    counts=(Counts(7365, 767, 1400, 700, 5332),),
    kaggle=KAGGLE,
)
LABELLED = Reader(
    name="cuhk03-labelled",
    layout=LAYOUT.format("labeled", NEW),
    read=partial(read_cuhk03, boxes="labelled"),
    publication=PUBLICATION,
    marks=_marks("labelled"),
    extracts=True,
    counts=(Counts(7368, 767, 1400, 700, 5328),),
    kaggle=KAGGLE,
)
CLASSIC_DETECTED = Reader(
    name="cuhk03-classic-detected",
    layout=LAYOUT.format("detected", CLASSIC),
    read=partial(read_cuhk03_classic, boxes="detected"),
    publication=PUBLICATION,
    extracts=True,
    options={"split": 0},
    kaggle=KAGGLE,
)
CLASSIC_LABELLED = Reader(
    name="cuhk03-classic-labelled",
    layout=LAYOUT.format("labeled", CLASSIC),
    read=partial(read_cuhk03_classic, boxes="labelled"),
    publication=PUBLICATION,
    extracts=True,
    options={"split": 0},
    kaggle=KAGGLE,
)
