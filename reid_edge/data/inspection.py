"""Reading every image once before a run: is it whole, and what is the hash of the data set?"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.decoding import check_image
from reid_edge.data.schema import ReidData
from reid_edge.data.thread_map import map_in_threads


def inspect_data(
    data: ReidData, *, known: dict[str, str] | None = None, progress: Progress | None = None
) -> tuple[str, dict[str, str]]:
    """Check that every image can be decoded, and hash names and contents.

    An image whose size and time of change are those of an earlier inspection is not read again.

    Args:
        data: the set.
        known: the second value of an earlier inspection.
        progress: called with (done, total).

    Returns:
        The hash of the set (the folder's path does not count), and what to pass as
        ``known`` next time.

    Raises:
        DataError: an image cannot be decoded; the first one is named.
    """
    images = data.images()
    known = known or {}
    digests: dict[str, str] = {}
    in_order: list[str] = []
    for stamp, digest in map_in_threads(lambda image: _inspect(image.path, known), images):
        digests[stamp] = digest
        in_order.append(digest)
        if progress is not None:
            progress(len(in_order), len(images))
    return _hash_of(data, in_order), digests


def _hash_of(data: ReidData, digests: Sequence[str]) -> str:
    """Hash names and labels with the contents, which are in the order of ``data.images()``.

    It is the hash of one JSON list, row by row: the text of a million images is not in memory.
    """
    total, following = sha256(), iter(digests)
    splits = (("[[", data.train), (", [", data.query), (", [", data.gallery))
    for start, split in splits:
        total.update(start.encode())
        separator = ""
        for image in split:
            row = [image.path.name, image.person, image.camera, next(following)]
            total.update((separator + json.dumps(row)).encode())
            separator = ", "
        total.update(b"]")
    if data.protocol != "market1501" or not data.has_cameras:
        # the same images, evaluated otherwise
        total.update((", " + json.dumps([data.protocol, data.has_cameras])).encode())
    if data.labels != "persons":
        frames = [image.frame for image in data.images()]
        total.update((", " + json.dumps([data.labels, frames])).encode())
    total.update(b"]")
    return total.hexdigest()


def _inspect(path: Path, known: dict[str, str]) -> tuple[str, str]:
    """Return a stamp of path, size and time of change, and the hash of the content."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such image") from error
    stamp = f"{path}\t{status.st_size}\t{status.st_mtime_ns}"
    digest = known.get(stamp)
    return stamp, check_image(path).digest.hex() if digest is None else digest
