"""Whose image is whose, in a folder that is to be enrolled."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.paths import existing_folder, images_of, inner_folders, list_images
from reid_edge.data.readers.identity_folders import JUNK
from reid_edge.data.readers.market1501 import NAME, SPLITS

IN_ONE_FOLDER = "put the images of each person into one folder"
# Market-1501's: -1 is no person, 0000 are many persons without a name.
NOBODY = frozenset((-1, 0))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedImage:
    """An image of somebody who has a name.

    Attributes:
        path: the file.
        person: the name.
    """

    path: Path
    person: str


def read_gallery_folder(folder: Path) -> list[NamedImage]:
    """List the images of a folder with the name of the person on each, sorted by path.

    One of three layouts:

    - a folder per person, whose name is the person's (``ann/1.jpg``); ``-1`` is left out;
    - images with Market-1501 names: ``0002_c1s1_000451_03.jpg`` is person ``0002``; junk
      (``-1``) and distractors (``0000``) are left out;
    - other images, whose name without the ending is the person's (``ann.jpg``).

    Raises:
        DataError: there is no such folder, it has no images, the layouts are mixed, or there
            are images that would not be read, in a folder within that of a person.
    """
    folder = existing_folder(folder)
    if (folder / SPLITS["gallery"]).is_dir():
        raise DataError(
            f"{folder}: a whole data set; give one of its folders, such as "
            f"{folder / SPLITS['gallery']}"
        )
    # A person's folder may have a name like an image's.
    flat = [path for path in list_images(folder) if not path.is_dir()]
    by_person = _list_folders(folder)
    if flat and by_person:
        raise DataError(
            f"{folder}: images beside folders with images; give a folder per person, or "
            "images alone"
        )
    named = _name_flat(folder, flat) if flat else by_person
    if not named:
        raise DataError(f"{folder}: no images of anybody in it")
    return named


def _list_folders(folder: Path) -> list[NamedImage]:
    return [
        NamedImage(path, person.name)
        for person in inner_folders(folder)
        if person.name != JUNK
        for path in images_of(person, "a person", IN_ONE_FOLDER)
    ]


def _name_flat(folder: Path, paths: Sequence[Path]) -> list[NamedImage]:
    matches = {path: match for path in paths if (match := NAME.match(path.name))}
    if not matches:
        return [NamedImage(path, path.stem) for path in paths]
    if len(matches) < len(paths):
        other = next(path for path in paths if path not in matches)
        raise DataError(
            f"{folder}: some names are Market-1501's, as {next(iter(matches)).name}, and some are "
            f"not, as {other.name}; give a folder per person"
        )
    named = [
        NamedImage(path, match[1]) for path, match in matches.items() if int(match[1]) not in NOBODY
    ]
    if len(named) < len(paths):
        _log.info("%d images of junk and distractors left out", len(paths) - len(named))
    return named
