"""CUHK01: 971 people on two cameras, two images of each on either.

Li et al., "Human Reidentification with Transferred Metric Learning", ACCV 2012.
"""

import re
from pathlib import Path

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.data.paths import find_base, list_images
from reid_edge.data.reader import Reader
from reid_edge.data.readers.torchreid_splits import read_torchreid_splits
from reid_edge.data.schema import Counts, ReidData, Sample

WRAPPINGS = ("cuhk01", "CUHK01")
IMAGES = "campus"
SPLITS = "splits.json"
# Person, and number of the image: 1 and 2 are of the first camera, 3 and 4 of the second.
NAME = re.compile(r"^(\d{4})00([1-4])\.png$")
COUNT = 20


def read_cuhk01(root: Path, *, split: int = 0, train_all: bool = False) -> ReidData:
    """Read CUHK01: half of the people to train on, half to test on.

    The protocol is torchreid's: ten random divisions of the people into 485 for training and 486
    for the test. Splits 0 and 1 are those of the first division, with the query on the first
    camera and the gallery on the second, and the other way round; and so on up to 19. Published
    figures are means over the splits. torchreid draws them anew on every machine and keeps them in
    ``splits.json``, which is used if it is there; otherwise they are drawn from fixed seeds.

    Args:
        root: the folder with ``campus``, where the images are, such as ``0001001.png``; or
            ``campus`` itself; or a folder that wraps one of these.
        split: from 0 to 19.
        train_all: train on everybody, without a test set, as in the recipe of the winners of LPCV
            2021, which merges this data set with others.

    Raises:
        DataError: there are no images, a name cannot be read, or there is no such split.
    """

    def is_base(folder: Path) -> bool:
        return any(
            NAME.match(path.name)
            for place in (folder / IMAGES, folder)
            for path in place.glob("*001.png")
        )

    base = find_base(
        root, WRAPPINGS, is_base, f"CUHK01: {IMAGES} with images such as 0001001.png in it"
    )
    folder = base / IMAGES if (base / IMAGES).is_dir() else base
    images: dict[str, Sample] = {}
    for path in list_images(folder, (".png",)):
        match = NAME.match(path.name)
        if match is None:
            raise DataError(f"{path}: is no image of CUHK01; expected a name such as 0001001.png")
        images[path.name] = Sample(path, int(match[1]), 1 if int(match[2]) <= 2 else 2)
    if train_all:
        return ReidData(base, tuple(images.values()), (), ())
    kept = read_torchreid_splits(base / SPLITS, "CUHK01") if (base / SPLITS).is_file() else None
    count = COUNT if kept is None else len(kept)
    if not 0 <= split < count:
        raise DataError(f"CUHK01 has no split {split}; choose 0 to {count - 1}")
    if kept is not None:
        other = next((name for names in kept[split] for name in names if name not in images), None)
        if other is not None:
            raise DataError(f"{folder / other}: no such image, but {SPLITS} lists it")
        train, query, gallery = (
            tuple(sorted(images[name] for name in names)) for names in kept[split]
        )
        return ReidData(base, train, query, gallery)
    persons = sorted({image.person for image in images.values()})
    drawn = np.random.default_rng(split // 2).permutation(len(persons))
    trained = {persons[index] for index in drawn[: len(persons) // 2]}
    tested = [image for image in images.values() if image.person not in trained]
    return ReidData(
        base,
        tuple(image for image in images.values() if image.person in trained),
        tuple(image for image in tested if image.camera == 1 + split % 2),
        tuple(image for image in tested if image.camera == 2 - split % 2),
    )


CUHK01 = Reader(
    name="cuhk01",
    layout="`campus` with images such as `0001001.png`",
    read=read_cuhk01,
    publication='Li et al., "Human Reidentification with Transferred Metric Learning", ACCV 2012',
    marks=(f"{IMAGES}/0001001.png", "0001001.png", *(f"{w}/{IMAGES}" for w in WRAPPINGS)),
    options={"split": 0, "train_all": False},
    # With a test set, and with everybody in the training set.
    counts=(Counts(1940, 485, 972, 486, 972), Counts(3884, 971)),
)
