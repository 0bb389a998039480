"""The layers of the engine, as its C code runs them: planes of bytes, offsets and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GROUP = 16
ALIGNMENT = 64

Kind = Literal[
    "CONVOLUTION",
    "LIGHT",
    "DEPTHWISE",
    "MAX_POOL",
    "AVERAGE_POOL",
    "SUM",
    "GATE",
    "NORM",
    "TABLE",
    "PRODUCT",
    "EMBEDDING",
]


def padded_channels(channels: int) -> int:
    """Return the bytes of a pixel: channels, up to a multiple of 16."""
    return -(-channels // GROUP) * GROUP


@dataclass(eq=False)
class Plane:
    """Memory of one tensor, or of the factors that a gate computes.

    Attributes:
        name: of the tensor, for comments.
        height: rows.
        width: columns.
        channels: bytes of a pixel.
        zero: zero point.
        offset: in the arena, once it is planned.
    """

    name: str
    height: int
    width: int
    channels: int
    zero: int = 0
    offset: int = 0

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.height * self.width * self.channels


@dataclass
class Weights:
    """All stored numbers, one after the other, each array aligned."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, values: NDArray[np.generic]) -> int:
        """Append an array; return its offset."""
        offset, content = self.size, np.ascontiguousarray(values).tobytes()
        content += bytes(-len(content) % ALIGNMENT)
        self.parts.append(content)
        self.size += len(content)
        return offset

    def content(self) -> bytes:
        """Return the file's content."""
        return b"".join(self.parts)


@dataclass(eq=False)
class Layer:
    """A layer: the planes that it reads and writes, and its numbers by the names in C.

    Attributes:
        kind: which function runs it.
        name: of the node, for comments.
        y: what it writes; None for the embedding.
        inputs: what it reads.
        gates: for each input of a sum, the plane of its factors, or None.
        numbers: fields of the C struct; an offset is one of the weights' file.
        scratch: bytes of memory that it needs while it runs.
        macs: multiply-accumulates for one image.
        sums: the plane of the sums of its output's channels, which it writes too, or None.
    """

    kind: Kind
    name: str
    y: Plane | None
    inputs: tuple[Plane, ...]
    gates: tuple[Plane | None, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    scratch: int = 0
    macs: int = 0
    sums: Plane | None = None


@dataclass
class Program:
    """What the C source is generated from.

    Attributes:
        planes: all of them, with their offsets.
        layers: in order.
        weights: content of the file with the weights.
        image: height and width of what it takes.
        image_scale: scale of the image's quantization.
        image_zero: zero point of it.
        border: pixels around the image in its plane (top, left).
        size: numbers of an embedding.
        unit_length: whether the embedding is divided by its length.
        arena: bytes of memory of all planes.
        scratch: offset of the scratch memory in it.
    """

    planes: list[Plane]
    layers: list[Layer]
    weights: bytes
    image: tuple[int, int]
    image_scale: float
    image_zero: int
    border: tuple[int, int]
    size: int
    unit_length: bool
    arena: int
    scratch: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)
