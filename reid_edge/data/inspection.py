"""Reading every image once before a run: is it whole, and what is the hash of the data set?"""

import json
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.decoded_share import spacing
from reid_edge.data.decoding import check_image
from reid_edge.data.quick_look import quick_look
from reid_edge.data.schema import ReidData
from reid_edge.data.thread_map import map_in_threads

# Before the hash of an image that was not decoded.
NOT_DECODED = "not decoded "

logger = logging.getLogger(__name__)


def inspect_data(
    data: ReidData, *, known: dict[str, str] | None = None, progress: Progress | None = None
) -> tuple[str, dict[str, str]]:
    """Check that images can be decoded, and hash names and contents of all.

    An image whose size and time of change are those of an earlier inspection is not read again,
    unless it has to be decoded now and was not then. Of a large set, see
    :func:`reid_edge.data.decoded_share.spacing`, every so many are decoded; of the others the
    beginning and the end have to be in order, or they are decoded too.

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
    apart = spacing(len(images))
    if apart > 1:
        logger.info(
            "of %s images one of %d is decoded; `reid-edge check FOLDER --decode all` decodes all",
            f"{len(images):,}", apart,
        )  # fmt: skip

    def inspect(number: int) -> tuple[str, str]:
        return _inspect(images[number].path, known, decode=number % apart == 0)

    for stamp, found in map_in_threads(inspect, range(len(images))):
        digests[stamp] = found
        in_order.append(found.removeprefix(NOT_DECODED))
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


def _inspect(path: Path, known: dict[str, str], *, decode: bool) -> tuple[str, str]:
    """Return a stamp of path, size and time of change, and the hash of the content.

    The hash begins with ``NOT_DECODED`` where that is so.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such image") from error
    stamp = f"{path}\t{status.st_size}\t{status.st_mtime_ns}"
    digest = known.get(stamp)
    if digest is not None and not (decode and digest.startswith(NOT_DECODED)):
        return stamp, digest
    looked = None if decode else quick_look(path)
    if looked is not None:
        return stamp, NOT_DECODED + looked.digest.hex()
    return stamp, check_image(path).digest.hex()
