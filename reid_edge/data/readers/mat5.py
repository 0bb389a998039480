"""MATLAB 5 files from elsewhere: lists of numbers and of texts.

Read without scipy, which makes room for what a file claims, and ends the process on damaged files.
The format is that of MathWorks, "MAT-File Format".
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reid_edge.core.errors import DataError

MOST_BYTES = 256 * 2**20
HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELLS, CHARACTERS, NUMBERS = 1, 4, range(6, 16)
NUMBER_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}

Part = tuple[int, memoryview]


def read_mat5(path: Path, names: tuple[str, ...]) -> dict[str, list[str] | list[float]]:
    """Read arrays of numbers, and cells of texts, each as a list.

    Args:
        path: the file.
        names: which arrays; the others are skipped.

    Raises:
        DataError: the file unpacks to more than 256 MiB.
        Exception: the file is damaged; the kind depends on the damage.
    """
    too_large = f"{path}: unpacks to more than {MOST_BYTES >> 20} MiB; get the file again"
    if path.stat().st_size > MOST_BYTES:
        raise DataError(too_large)
    content = memoryview(path.read_bytes())
    order = "<" if bytes(content[HEADER - 2 : HEADER]) == b"IM" else ">"
    room = MOST_BYTES
    found: dict[str, list[str] | list[float]] = {}
    for kind, data in _parts(content[HEADER:], order, aligned=False):
        if kind == COMPRESSED:
            unpacked = memoryview(zlib.decompressobj().decompress(data, room))
            room -= len(unpacked)
            if room <= 0:
                raise DataError(too_large)
            kind, data = next(_parts(unpacked, order))
        if kind == MATRIX:
            _, _, (_, name), *_ = _parts(data, order)
            if (text := bytes(name).decode("ascii")) in names:
                found[text] = _read_list(data, order)
    return found


def _parts(content: memoryview, order: str, *, aligned: bool = True) -> Iterator[Part]:
    """Yield type and data of the elements that follow each other."""
    position = 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, position)
        if kind >> 16:  # a small element: type and size share four bytes, the data follows
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            position += 8
        else:
            start = position + 8
            position = start + size + (-size % 8 if aligned else 0)
        if start + size > len(content):
            raise ValueError("it ends in the middle of an array")
        yield kind, content[start : start + size]


def _read_list(matrix: memoryview, order: str) -> list[str] | list[float]:
    """Read the numbers of an array, or the texts of cells."""
    (_, flags), (_, dimensions), _, *values = _parts(matrix, order)
    kind = struct.unpack_from(order + "I", flags)[0] & 0xFF
    count = math.prod(struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions))
    if kind == CELLS:
        texts = []
        for _, cell in values:
            (_, flags), _, _, (stored_as, data) = _parts(cell, order)
            if struct.unpack_from(order + "I", flags)[0] & 0xFF != CHARACTERS:
                raise ValueError("a cell has no text in it")
            encoding = ENCODINGS[stored_as]
            if encoding == "utf-16":
                encoding += "-le" if order == "<" else "-be"
            texts.append(bytes(data).decode(encoding))
        if len(texts) != count:
            raise ValueError(f"{count} cells are announced, {len(texts)} are there")
        return texts
    if kind not in NUMBERS or not values:
        raise ValueError("an array is of another kind than expected")
    numbers = np.frombuffer(values[0][1], np.dtype(order + NUMBER_TYPES[values[0][0]]))
    if len(numbers) != count:
        raise ValueError(f"{count} numbers are announced, {len(numbers)} are there")
    return [float(number) for number in numbers]
