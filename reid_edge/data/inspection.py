"""Read every image once: is it whole, and what is the set's hash?"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.images import load_image
from reid_edge.data.schema import ReidData, Sample


def inspect_data(
    data: ReidData, *, known: dict[str, str] | None = None, progress: Progress | None = None
) -> tuple[str, dict[str, str]]:
    """Check that every image can be decoded, and hash names and contents.

    An image whose size and time of change are those of an earlier inspection is not read again.

    Args:
        data: the set.
        known: what an earlier inspection returned as its second value.
        progress: called with (done, total).

    Returns:
        The hash of the set (it does not depend on where the folder lies), and what to pass as
        ``known`` next time.

    Raises:
        DataError: an image cannot be decoded; the first one is named.
    """
    images = data.images()
    known = known or {}
    digests: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda image: _inspect(image.path, known), images)
        for done, (stamp, digest) in enumerate(found, start=1):
            digests[stamp] = digest
            if progress is not None:
                progress(done, len(images))
    return _combine(data, digests), digests


def _inspect(path: Path, known: dict[str, str]) -> tuple[str, str]:
    stamp = _stamp(path)
    if stamp in known:
        return stamp, known[stamp]
    load_image(path, 8, 8)
    return stamp, sha256(path.read_bytes()).hexdigest()


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such image") from error
    return f"{path}\t{status.st_size}\t{status.st_mtime_ns}"


def _combine(data: ReidData, digests: dict[str, str]) -> str:
    content = {stamp.rsplit("\t", 2)[0]: digest for stamp, digest in digests.items()}

    def lines(split: Sequence[Sample]) -> list[list[str | int]]:
        return [[p.path.name, p.person, p.camera, content[str(p.path)]] for p in split]

    table: list[object] = [lines(data.train), lines(data.query), lines(data.gallery)]
    if data.protocol != "market1501" or not data.has_cameras:
        table.append([data.protocol, data.has_cameras])  # the same images, measured otherwise
    return sha256(json.dumps(table).encode()).hexdigest()
