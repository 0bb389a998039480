"""A data set reader: images such as ``train/12@3_0001.jpg``, person 12 on camera 3."""

import re
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.paths import existing_folder
from reid_edge.data.reader import Reader
from reid_edge.data.schema import ReidData, Sample

NAME = re.compile(r"(\d+)@(\d+)_")


def read_at_names(root: Path) -> ReidData:
    """Read the folders ``train``, ``query`` and ``gallery``.

    Raises:
        DataError: a folder is missing, or a name has no person and camera.
    """
    root = existing_folder(root)
    train, query, gallery = (read_split(root / name) for name in ("train", "query", "gallery"))
    return ReidData(root, train, query, gallery)


def read_split(folder: Path) -> tuple[Sample, ...]:
    """Read the images of a folder, in the order of their names."""
    samples = []
    for path in sorted(existing_folder(folder).glob("*.jpg")):
        found = NAME.match(path.name)
        if found is None:
            raise DataError(f"{path}: no person and camera in the name; expected 12@3_0001.jpg")
        samples.append(Sample(path, person=int(found[1]), camera=int(found[2])))
    return tuple(samples)


AT_NAMES = Reader(
    name="at-names",
    layout="`train`, `query`, `gallery` with images such as `12@3_0001.jpg`",
    read=read_at_names,
    marks=("train/*@*_*.jpg",),  # only such a folder has these, so `check` recognizes it
)
