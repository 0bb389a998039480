"""What the bytes of an image file show without decoding it, for sets of many images."""

import os
import stat
from hashlib import sha256
from pathlib import Path

from PIL import Image

from reid_edge.data.decoding import WholeImage

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Chunks that may say how an image is turned.
PNG_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
# Markers that begin a frame, baseline, extended or progressive. Not every decoder reads the others.
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
# Markers of tables, application data and comments, which may stand before the frame.
JPEG_SEGMENTS = frozenset([0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)])
JPEG_APP1 = 0xE1  # EXIF and XMP, which may say how an image is turned


def quick_look(path: Path) -> WholeImage | None:
    """Return size and hash of a JPEG or PNG file whose beginning and end are in order.

    The file is read whole and not decoded: it may be damaged in between.

    Returns:
        None, if only decoding can tell: files that are not there, empty, cut off or too large; with
        EXIF data, other than 8 bits a channel, or in another format.
    """
    try:
        # A file object would take as long again. Without waiting: nobody may write into a FIFO.
        file = os.open(path, FLAGS)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        content = os.read(file, status.st_size)
    except OSError:
        return None
    finally:
        os.close(file)
    if len(content) != status.st_size:
        return None
    size = _jpeg_size(content) or _png_size(content)
    most = Image.MAX_IMAGE_PIXELS
    if size is None or not all(size) or (most is not None and size[0] * size[1] > most):
        return None
    return WholeImage(size, sha256(content).digest())


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return the (width, height) in the header of a JPEG that ends as it should."""
    if not (content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9")):
        return None
    place = 2
    while place + 10 < len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in JPEG_FRAMES:
            height = content[place + 5] << 8 | content[place + 6]
            width = content[place + 7] << 8 | content[place + 8]
            usual = content[place + 4] == 8 and content[place + 9] in (1, 3)
            return (width, height) if usual else None
        if marker == JPEG_APP1 or marker not in JPEG_SEGMENTS:
            return None
        place += 2 + (content[place + 2] << 8 | content[place + 3])
    return None


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Return the (width, height) in the header of a PNG that ends as it should."""
    if not (content.startswith(PNG_START) and content.endswith(PNG_END)):
        return None
    if content[24] > 8 or any(text in content for text in PNG_TEXTS):
        return None
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
