"""Decoded and resized images in a memory-mapped file, so that each is decoded once."""

import json
import mmap
import os
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from reid_edge.core.errors import DataError
from reid_edge.data.decoding import load_image

VERSION = 1
# Of an entry: 1 and the CRC-32 of its pixels as four bytes; zeros until it is written.
MARK_BYTES = 5


class ImageCache:
    """uint8 images of one size, in the order of a list of files.

    An image is decoded when it is first asked for, by whatever process asks, and written into the
    file that all processes share. It is compared with its CRC-32 whenever it is read, so that what
    a killed process or a damaged disk left is decoded again.

    Args:
        folder: where the file is made; its name depends on the size, the version of Pillow, and
            on path, size and time of change of every image. Files of former lists in the folder
            are removed.
        paths: image files.
        height: rows.
        width: columns.

    Raises:
        DataError: an image is not there, or the file cannot be made.
    """

    def __init__(self, folder: Path, paths: Sequence[Path], height: int, width: int) -> None:
        self._paths = list(paths)
        self._size = height, width
        self._bytes = height * width * 3
        self._marks = len(self._paths) * MARK_BYTES
        self._map: mmap.mmap | None = None
        name = f"images-{_identity(self._paths, height, width)}.cache"
        self._file = folder / name
        length = self._marks + len(self._paths) * self._bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for former in folder.glob("images-*.cache"):
                if former.name != name:
                    former.unlink(missing_ok=True)
            with self._file.open("ab") as file:
                # The system stores no zeros: the file grows with the images in it. It is never
                # cut to nothing, because another process may have mapped it.
                if os.fstat(file.fileno()).st_size != length:
                    file.truncate(length)
        except OSError as error:
            raise DataError(
                f"{self._file}: cannot be made ({error.strerror}); make room there, or set "
                "data.cache false"
            ) from error

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapping out: each process maps the file itself."""
        return {**self.__dict__, "_map": None}

    def load(self, index: int) -> NDArray[np.uint8]:
        """Return what :func:`reid_edge.data.decoding.load_image` returns for an image.

        Raises:
            DataError: it cannot be decoded, or not be written.
        """
        if self._map is None:
            with self._file.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
        mark = slice(index * MARK_BYTES, (index + 1) * MARK_BYTES)
        start = self._marks + index * self._bytes
        place = slice(start, start + self._bytes)
        pixels = self._map[place]
        if self._map[mark] != _mark(pixels):
            decoded = load_image(self._paths[index], *self._size)
            pixels = decoded.transpose(1, 2, 0).tobytes()
            self._write(start, pixels)
            self._write(mark.start, _mark(pixels))
        # A bytearray can be written to, as PyTorch wants it.
        image = np.frombuffer(bytearray(pixels), dtype=np.uint8)
        return image.reshape(*self._size, 3).transpose(2, 0, 1)

    def _write(self, place: int, content: bytes) -> None:
        """Write into the file, not into the mapping: on a full disk, that kills the process."""
        try:
            with self._file.open("r+b") as file:
                os.pwrite(file.fileno(), content, place)
        except OSError as error:
            raise DataError(
                f"{self._file}: cannot be written ({error.strerror}); make room there, or set "
                "data.cache false"
            ) from error


def _mark(pixels: bytes) -> bytes:
    return b"\1" + zlib.crc32(pixels).to_bytes(4, "big")


def _identity(paths: Sequence[Path], height: int, width: int) -> str:
    """Hash what the content of the file depends on."""
    total = sha256(json.dumps([VERSION, PIL.__version__, height, width]).encode())
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path}: no such image") from error
        total.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode("utf-8", "replace"))
    return total.hexdigest()[:16]
