"""MXNet's RecordIO files (``.rec``), in which InsightFace publishes face sets."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.progress import Progress

# dmlc-core's recordio.h: magic, then three bits that say which part of a record follows, and 29
# bits of length. Where a record's own bytes have the magic in them, the record is split there.
MAGIC = struct.pack("<I", 0xCED7230A)
FRAME = struct.Struct("<4sI")
LENGTH_BITS = 29
ALIGNMENT = 4
WHOLE, FIRST, MIDDLE, LAST = range(4)
# MXNet's IRHeader: how many labels follow, or 0 and the label; two numbers of the image.
HEADER = struct.Struct("<IfQQ")
# A float has no more whole numbers.
MOST_LABELS = 2**24
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}

logger = logging.getLogger(__name__)


def extract_rec(rec: Path, folder: Path, progress: Progress | None = None) -> None:
    """Write the images of a ``.rec`` file, a folder per identity, all of them or none.

    The bytes are written as they are, without decoding. Entries without an image, in which
    InsightFace keeps its counts, are left out.

    Args:
        rec: the file, such as ``train.rec``; its index is not needed.
        folder: where to write; does not exist yet.
        progress: called with (bytes read, bytes in all).

    Raises:
        DataError: the file is broken, or the folder cannot be written.
    """
    logger.info("extracting images, once: %s", folder)
    total = rec.stat().st_size
    with rec.open("rb") as stream, written_aside(folder) as draft:
        for number, payload in enumerate(_read_payloads(stream, rec)):
            if len(payload) < HEADER.size:
                raise DataError(f"{rec}: a record is too short for its header; get it again")
            labels, label, _, _ = HEADER.unpack_from(payload)
            image = payload[HEADER.size :]
            if labels:
                if len(image) < 4 * labels:
                    raise DataError(f"{rec}: a record is too short for its labels; get it again")
                (label,) = struct.unpack_from("<f", image)
                image = image[4 * labels :]
            # Written so that a label that is not a number is refused too.
            if not 0 <= label < MOST_LABELS:
                raise DataError(f"{rec}: {label} is no identity; get the file again")
            suffix = SUFFIXES.get(image[:2])
            if suffix is not None:
                path = draft / f"{int(label):07d}" / f"{number:08d}{suffix}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(image)
            if progress is not None and number % 256 == 0:
                progress(stream.tell(), total)


def _read_payloads(stream: BinaryIO, rec: Path) -> Iterator[bytes]:
    """Yield the records of a file whole: those that were split are joined by the magic again."""
    ends_early = f"{rec}: ends in the middle of a record; get it again"
    parts: list[bytes] = []
    while frame := stream.read(FRAME.size):
        if len(frame) < FRAME.size:
            raise DataError(ends_early)
        magic, described = FRAME.unpack(frame)
        kind, length = divmod(described, 1 << LENGTH_BITS)
        if magic != MAGIC or kind > LAST:
            raise DataError(f"{rec}: is no record file of MXNet")
        part = stream.read(length)
        stream.read(-length % ALIGNMENT)
        if len(part) < length:
            raise DataError(ends_early)
        if bool(parts) != (kind in (MIDDLE, LAST)):
            raise DataError(f"{rec}: a part of a split record is missing; get it again")
        parts.append(part)
        if kind in (WHOLE, LAST):
            yield MAGIC.join(parts)
            parts = []
    if parts:
        raise DataError(ends_early)
