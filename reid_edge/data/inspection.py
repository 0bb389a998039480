"""Reading every image once before a run: is it whole, and what is the hash of the data set?"""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.decoding import load_image
from reid_edge.data.schema import ReidData


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
    content: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda image: _inspect(image.path, known), images)
        for done, (image, (stamp, digest)) in enumerate(zip(images, found, strict=True), start=1):
            digests[stamp] = content[image.path] = digest
            if progress is not None:
                progress(done, len(images))
    table: list[object] = [
        [[image.path.name, image.person, image.camera, content[image.path]] for image in split]
        for split in (data.train, data.query, data.gallery)
    ]
    if data.protocol != "market1501" or not data.has_cameras:
        table.append([data.protocol, data.has_cameras])  # the same images, evaluated otherwise
    if data.labels != "persons":
        table.append([data.labels, [image.frame for image in images]])
    return sha256(json.dumps(table).encode()).hexdigest(), digests


def _inspect(path: Path, known: dict[str, str]) -> tuple[str, str]:
    """Return a stamp of path, size and time of change, and the hash of the content."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such image") from error
    stamp = f"{path}\t{status.st_size}\t{status.st_mtime_ns}"
    if stamp in known:
        return stamp, known[stamp]
    load_image(path, 8, 8)
    return stamp, sha256(path.read_bytes()).hexdigest()
