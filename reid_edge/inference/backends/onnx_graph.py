"""What has to be known of an ONNX file before ONNX Runtime is given it.

The file is a protocol buffer (https://protobuf.dev/programming-guides/encoding/); the numbers of
the fields are those of ``onnx.proto``. The package onnx is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Which fields of a message are messages that are looked into, and of which kind they are.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_OPERATOR, _EXTERNAL_DATA, _DATA_LOCATION = 4, 13, 14
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxContents:
    """What an ONNX file is made of.

    Attributes:
        operators: names of all operators, in functions and inner graphs too.
        locations: files, relative to the model's folder, that hold weights.
    """

    operators: frozenset[str]
    locations: frozenset[str]


def read_contents(content: bytes) -> OnnxContents:
    """Read the operators and the files with weights off a file.

    Raises:
        ValueError: it is not a protocol buffer of the kind.
    """
    operators, locations = set(), set()
    waiting = [("model", memoryview(content))]
    while waiting:
        kind, message = waiting.pop()
        parts = _PARTS.get(kind, {})
        external, entries = False, []
        for number, value in _fields(message):
            if kind == "node" and number == _OPERATOR and not isinstance(value, int):
                operators.add(bytes(value).decode())
            elif kind == "tensor" and number == _DATA_LOCATION:
                external = value == 1
            elif kind == "tensor" and number == _EXTERNAL_DATA and not isinstance(value, int):
                entries.append(value)
            elif number in parts and not isinstance(value, int):
                waiting.append((parts[number], value))
        for entry in entries if external else ():
            pair = {n: bytes(v).decode() for n, v in _fields(entry) if not isinstance(v, int)}
            if pair.get(1) == "location":
                locations.add(pair.get(2, ""))
    return OnnxContents(frozenset(operators), frozenset(locations))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each field: a number, or bytes."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _number(message, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, place = _number(message, place)
        elif kind in (_FIXED_32, _FIXED_64):
            length = 4 if kind == _FIXED_32 else 8
        else:
            raise ValueError(f"a field of the kind {kind}")
        if place + length > len(message):
            raise ValueError("a field ends behind its message")
        yield key >> 3, message[place : place + length]
        place += length


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without an end")
