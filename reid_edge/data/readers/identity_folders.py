"""One's own images, a folder per identity."""

import re
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.identities import stand_in_cameras
from reid_edge.data.names import (
    is_junk,
    is_missing,
    notes_on_distractors,
    notes_on_names,
    number_names,
)
from reid_edge.data.paths import existing_folder, holds_images, images_of, inner_folders
from reid_edge.data.reader import Reader
from reid_edge.data.schema import ReidData, Sample, sort_images

TRAIN, TRAIN_ALL, VALIDATION, QUERY, GALLERY = "train", "train_all", "val", "query", "gallery"
# The last is made by layumi's Person_reID too, and not read here.
SPLITS = frozenset((TRAIN, TRAIN_ALL, VALIDATION, QUERY, GALLERY, "multi-query"))
IN_ONE_FOLDER = (
    "put the images of each identity into one folder, with the camera in their names, such as "
    f"'c2_1.jpg'; sets of identities are folders named {TRAIN}, {QUERY} and {GALLERY}"
)
# Not within a word: neither "pic2.jpg" nor "c3po.jpg" names a camera, "0002_c1s1_000451.jpg" does.
CAMERA = re.compile(
    r"(?<![a-z0-9])(?:c|cam(?:era)?[ _-]?)(\d+)(?:s\d|(?![a-z0-9]))"
    r"|^[\d-]{4}c(\d)t\d+f\d+$",  # MARS: 0001C1T0001F001.jpg
    re.IGNORECASE,
)


def read_identity_folders(root: Path, *, train_all: bool = False) -> ReidData:
    """Read images that lie in a folder per identity.

    The folder's name is the identity, a number or a word; ``0002`` and ``2`` are the same number
    (see `group_names`). An image's name may have the camera in
    it as ``c``, ``cam`` or ``camera`` and a number, in small letters or capitals
    (``0002_c1s1_000451_03.jpg``, ``c3_17.png``, ``Cam2-0001.jpg``), or as MARS has it
    (``0001C1T0001F001.jpg``). If none has, no two images of a person share a camera (see
    `stand_in_cameras`). Folders named ``-1``, as in Market-1501, or ``00-1``, as in MARS, are
    junk and are not read.

    Args:
        root: a folder with ``train``, ``query`` and ``gallery`` in it, each with a folder per
            identity, the last two together (the layout of layumi's Person_reID); or just a folder
            per identity: all of it is training set then.
        train_all: train on ``train_all``, or on ``train`` and ``val`` where that is missing,
            instead of ``train`` alone.

    Raises:
        DataError: there are no folders or no images in them, a folder is named ``nan`` or the
            like, only some of the names have a camera, or there are images that would not be
            read: in another folder beside these, or in a folder within that of an identity.
    """
    root = existing_folder(root)
    folders = _find_splits(root, train_all)
    read = {split: _list_split(members) for split, members in folders.items()}
    found = {
        split: [(name, path) for name, path in members if not is_junk(name)]
        for split, members in read.items()
    }
    everything = [member for members in found.values() for member in members]
    persons = number_names(name for name, _ in everything)
    named = {
        path: int(match[1] or match[2])
        for _, path in everything
        if (match := CAMERA.search(path.stem))
    }
    if named and len(named) < len(everything):
        bare = next(path for _, path in everything if path not in named)
        raise DataError(
            f"{bare.relative_to(root)}: no camera such as 'c2' in the name, but other names have "
            "one; give all or none"
        )
    cameras = named or stand_in_cameras((persons[name], path) for name, path in everything)
    splits = {
        split: tuple(
            sort_images(Sample(path, persons[name], cameras[path]) for name, path in members)
        )
        for split, members in found.items()
    }
    train, query, gallery = (splits.get(split, ()) for split in (TRAIN, QUERY, GALLERY))
    return ReidData(
        root,
        train,
        query,
        gallery,
        has_cameras=bool(named),
        junk=sum(map(len, read.values())) - len(everything),
        notes=(
            *notes_on_names("person", persons),
            *notes_on_distractors(image.path for image in (*train, *query)),
        ),
    )


def _find_splits(root: Path, train_all: bool) -> dict[str, list[Path]]:
    """Return the folders that each split is read from."""
    there = {path.name for path in root.iterdir() if path.is_dir()}
    if not there & {TRAIN, TRAIN_ALL, QUERY, GALLERY}:
        return {TRAIN: [root]}
    for folder in inner_folders(root):
        if folder.name not in SPLITS and holds_images(folder):
            raise DataError(
                f"{folder}: has images and is not read; the folders are named {TRAIN}, "
                f"{QUERY} and {GALLERY}, a test set is the last two; rename it or move it away"
            )
    if (QUERY in there) != (GALLERY in there):
        raise DataError(f"{root}: query and gallery go together; one of the folders is missing")
    splits = {split: [root / split] for split in (QUERY, GALLERY) if split in there}
    if TRAIN_ALL in there and (train_all or TRAIN not in there):
        return {TRAIN: [root / TRAIN_ALL], **splits}
    names = (TRAIN, VALIDATION) if train_all else (TRAIN,)
    train = [root / name for name in names if name in there]
    return {TRAIN: train, **splits} if train else splits


def _list_split(folders: list[Path]) -> list[tuple[str, Path]]:
    """List the images of a split with the names of their identities, junk among them."""
    members = []
    for identity in (inner for folder in folders for inner in inner_folders(folder)):
        if is_missing(identity.name):
            raise DataError(
                f"{identity}: {identity.name!r} is a missing value and no person; rename the folder"
            )
        images = images_of(identity, "an identity", IN_ONE_FOLDER)
        members += [(identity.name, path) for path in images]
    if all(is_junk(name) for name, _ in members):
        raise DataError(f"{folders[0]}: no folder with images in it; expected one per identity")
    return members


FOLDERS = Reader(
    name="folders",
    layout="one's own images in a folder per identity, or `train`, `query` and `gallery` with a "
    "folder per identity each; a camera such as `c2` in the names, or none",
    read=read_identity_folders,
    any_folders=True,
    options={"train_all": False},
)
