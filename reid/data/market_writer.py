"""Writing any data set in the layout and with the names of Market-1501."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from reid.data.market1501 import NAME, SPLITS, SUFFIXES
from reid.data.pictures import read_picture
from reid.data.records import Picture, ReidData
from reid.progress import Progress


def write_market_layout(
    data: ReidData, folder: Path, *, link: bool = False, progress: Progress | None = None
) -> None:
    """Write the three folders of Market-1501.

    Names that are Market-1501's and say what the data says are kept. Otherwise a picture becomes
    ``0007_c2s1_000015_00.png``: person, camera, number within the split. A set that has a person
    0 is then counted from 1, since 0 is the name of Market-1501's distractors. Pictures that are
    not JPEG or PNG are written as PNG.

    Args:
        data: what to write; junk is not part of it.
        folder: an empty folder.
        link: use hard links where the file system has them; the originals must not be needed.
        progress: called with (pictures done, pictures).

    Raises:
        DataError: a picture cannot be decoded that has to be written in another format, or has
            16-bit or float pixels.
        OSError: the folder cannot be written, or a picture not read.
    """
    splits = {"train": data.train, "query": data.query, "gallery": data.gallery}
    keep = all(_has_market_names(pictures) for pictures in splits.values())
    shift = 1 if any(picture.person == 0 for picture in data.pictures()) else 0
    done, total = 0, len(data.pictures())
    for split, pictures in splits.items():
        target = folder / SPLITS[split]
        target.mkdir()
        for number, picture in enumerate(pictures):
            name = picture.path.name if keep else _name(picture, number, shift)
            _write(picture.path, target / name, link)
            done += 1
            if progress is not None:
                progress(done, total)


def _has_market_names(pictures: Sequence[Picture]) -> bool:
    if len({picture.path.name for picture in pictures}) < len(pictures):
        return False
    return all(_is_market_name(picture) for picture in pictures)


def _is_market_name(picture: Picture) -> bool:
    match = NAME.match(picture.path.name)
    if match is None or picture.path.suffix.lower() not in SUFFIXES:
        return False
    return (int(match[1]), int(match[2])) == (picture.person, picture.camera)


def _name(picture: Picture, number: int, shift: int) -> str:
    suffix = picture.path.suffix.lower()
    kept = suffix if suffix in SUFFIXES else ".png"
    return f"{picture.person + shift:04d}_c{picture.camera}s1_{number:06d}_00{kept}"


def _write(path: Path, target: Path, link: bool) -> None:
    if path.suffix.lower() not in SUFFIXES:
        read_picture(path, keep_grey=True).save(target)
        return
    if link:
        try:
            os.link(path, target)
            return
        except OSError:
            # Not every file system has hard links.
            pass
    shutil.copyfile(path, target)
