"""MSMT17: lists beside folders of images.

Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018.
"""

import re
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.paths import check_regular, find_base, image_inside
from reid_edge.data.reader import Reader
from reid_edge.data.schema import Counts, ReidData, Sample

WRAPPINGS = (
    "MSMT17_V1", "MSMT17_V2", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2", "MSMT17", "msmt17",
)  # fmt: skip
# The second version has blurred faces, and other folders.
FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
NAME = re.compile(r"^\d+_\d+_(\d+)_")


def read_msmt17(root: Path, *, train_all: bool = False) -> ReidData:
    """Read MSMT17, version 1 or 2.

    A line of a list is ``0000/0000_000_01_0303morning_0015_0.jpg 0``: the image, whose name has
    the camera in third place, and the person. Both lists of persons begin at 0; the numbers of the
    test set continue those of the training set, so that no number means two people.

    Args:
        root: the folder with the lists, or one that wraps it.
        train_all: also train on the images of ``list_val.txt``. Published results on MSMT17
            leave them out, as torchreid does.

    Raises:
        DataError: a list or a folder is missing, a line cannot be read, or a path leads out of
            the folder.
    """

    def is_base(folder: Path) -> bool:
        images = any((folder / train).is_dir() for train, _ in FOLDERS)
        return images and (folder / "list_train.txt").is_file()

    base = find_base(
        root, WRAPPINGS, is_base, "MSMT17: list_train.txt beside train/ and test/ (version 1) or "
        "mask_train_v2/ and mask_test_v2/ (version 2)",
    )  # fmt: skip
    train_folder, test_folder = next(names for names in FOLDERS if (base / names[0]).is_dir())
    train = _read_list(base, "list_train.txt", train_folder)
    validation = _read_list(base, "list_val.txt", train_folder)
    first = 1 + max(image.person for image in (*train, *validation))
    query = _read_list(base, "list_query.txt", test_folder, first)
    gallery = _read_list(base, "list_gallery.txt", test_folder, first)
    return ReidData(base, train + validation if train_all else train, query, gallery)


def _read_list(base: Path, name: str, folder: str, first: int = 0) -> tuple[Sample, ...]:
    """Read the images of a list; persons are counted from ``first``."""
    check_regular(base / name)
    try:
        lines = (base / name).read_text(encoding="utf-8-sig").splitlines()
        root = (base / folder).resolve(strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{base}: cannot read {name} and the folder {folder} of MSMT17") from error
    images = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{base / name} line {number}"
        text, _, person = line.strip().rpartition(" ")
        match = NAME.match(text.rpartition("/")[2])
        if match is None or not person.isascii() or not person.isdigit():
            raise DataError(
                f"{where}: cannot read {line.strip()!r}; "
                "expected something like 0000/0000_000_01_0303morning_0015_0.jpg 0"
            )
        path = image_inside(root, text, where)
        images.append(Sample(path, first + int(person), int(match[1])))
    if not images:
        raise DataError(f"{base / name}: the list is empty")
    return tuple(images)


MSMT17 = Reader(
    name="msmt17",
    layout="`list_train.txt`, `list_val.txt`, `list_query.txt`, `list_gallery.txt` beside `train` "
    "and `test`, or `mask_train_v2` and `mask_test_v2` (version 2)",
    read=read_msmt17,
    publication='Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person '
    'Re-Identification", CVPR 2018',
    marks=("list_train.txt", "MSMT17_V1/list_train.txt", "MSMT17_V2/list_train.txt"),
    options={"train_all": False},
    # Without and with the images of list_val.txt; versions 1 and 2 have the same.
    counts=(
        Counts(30248, 1041, 11659, 3060, 82161), Counts(32621, 1041, 11659, 3060, 82161),
    ),
)  # fmt: skip
