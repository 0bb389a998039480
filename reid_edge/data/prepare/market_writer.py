"""Writing any data set in the layout and with the names of Market-1501."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from reid_edge.core.progress import Progress
from reid_edge.data.decoding import read_image
from reid_edge.data.readers.market1501 import NAME, SPLITS, SUFFIXES
from reid_edge.data.schema import ReidData


def write_market_layout(
    data: ReidData, folder: Path, *, link: bool = False, progress: Progress | None = None
) -> None:
    """Write the three folders of Market-1501.

    The file names stay if all of them are Market-1501's and agree with the data. Otherwise an image
    is named ``0007_c2s1_000015_00.png``: person, camera, number within the split. If the set has a
    person 0, every person is then one higher, since 0000 are Market-1501's distractors. Images that
    are not JPEG or PNG are written as PNG.

    Args:
        data: what to write; junk is not part of it.
        folder: an empty folder.
        link: use hard links where the file system has them; the originals must not be needed.
        progress: called with (images done, images).

    Raises:
        DataError: an image cannot be decoded that has to be written in another format, or has
            16-bit or float pixels.
        OSError: the folder cannot be written, or an image not read.
    """
    splits = {"train": data.train, "query": data.query, "gallery": data.gallery}
    keep = all(
        len({image.path.name for image in images}) == len(images)
        and all(
            image.path.suffix.lower() in SUFFIXES
            and (match := NAME.match(image.path.name)) is not None
            and (int(match[1]), int(match[2])) == (image.person, image.camera)
            for image in images
        )
        for images in splits.values()
    )
    shift = 1 if any(image.person == 0 for image in data.images()) else 0
    done, total = 0, len(data.images())
    for split, images in splits.items():
        target = folder / SPLITS[split]
        target.mkdir()
        for number, image in enumerate(images):
            name, suffix = image.path.name, image.path.suffix.lower()
            if not keep:
                ending = suffix if suffix in SUFFIXES else ".png"
                person = image.person + shift
                name = f"{person:04d}_c{image.camera}s1_{number:06d}_00{ending}"
            if suffix not in SUFFIXES:
                read_image(image.path, keep_grey=True).save(target / name)
            else:
                linked = False
                if link:
                    with suppress(OSError):  # not every file system has hard links
                        os.link(image.path, target / name)
                        linked = True
                if not linked:
                    shutil.copyfile(image.path, target / name)
            done += 1
            if progress is not None:
                progress(done, total)
