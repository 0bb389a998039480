"""A quantized network as the engine reads it: values, and the operations between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantization:
    """How uint8 stands for real numbers: ``real = scale * (q - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(eq=False)
class Value:
    """What an operation gives: one image's channels x height x width.

    Attributes:
        name: of the tensor in the file.
        channels: number of channels.
        height: rows.
        width: columns.
        quantization: of its uint8 form; None for the float result of the last operation.
    """

    name: str
    channels: int
    height: int
    width: int
    quantization: Quantization | None = None


@dataclass(eq=False)
class Convolution:
    """A convolution; a linear layer is one that covers its whole input.

    Attributes:
        name: of the node.
        x: input.
        y: output.
        weight: int8 (N, C / groups, rows, columns).
        weight_scale: of each output channel (N,).
        bias: real numbers (N,).
        stride: (down, right).
        padding: (top, left, bottom, right), of zeros.
        dilation: (down, right).
        groups: number of groups.
    """

    name: str
    x: Value
    y: Value
    weight: NDArray[np.int8]
    weight_scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(eq=False)
class Pooling:
    """The largest or the mean value of each window; padding does not count."""

    name: str
    x: Value
    y: Value
    kind: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


@dataclass(eq=False)
class GlobalPooling:
    """The mean of each channel."""

    name: str
    x: Value
    y: Value


@dataclass(eq=False)
class Sum:
    """Elementwise sum of values of one shape."""

    name: str
    inputs: tuple[Value, ...]
    y: Value


@dataclass(eq=False)
class Product:
    """Elementwise product; ``gate`` may be one number for each channel."""

    name: str
    x: Value
    gate: Value
    y: Value


@dataclass(eq=False)
class Concatenation:
    """Values one after the other, as channels."""

    name: str
    inputs: tuple[Value, ...]
    y: Value


@dataclass(eq=False)
class Elementwise:
    """A function of each number alone."""

    name: str
    x: Value
    y: Value
    kind: str
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(eq=False)
class InstanceNorm:
    """Each channel of an image by its own mean and variance, then scaled and shifted."""

    name: str
    x: Value
    y: Value
    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    epsilon: float


@dataclass(eq=False)
class Affine:
    """A factor and a shift for each channel: BatchNorm that is not folded into a layer."""

    name: str
    x: Value
    y: Value
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]


Operation: TypeAlias = (
    Convolution
    | Pooling
    | GlobalPooling
    | Sum
    | Product
    | Concatenation
    | Elementwise
    | InstanceNorm
    | Affine
)


def inputs_of(operation: Operation) -> tuple[Value, ...]:
    """Return the values that an operation reads."""
    if isinstance(operation, Sum | Concatenation):
        return operation.inputs
    if isinstance(operation, Product):
        return operation.x, operation.gate
    return (operation.x,)


@dataclass
class Network:
    """A network from an image to an embedding.

    Attributes:
        image: the input, quantized.
        operations: in an order in which they can run.
        output: the embedding before it is brought to unit length; it needs no rounding.
        unit_length: whether the embedding is divided by its length.
        metadata: of the file.
    """

    image: Value
    operations: list[Operation]
    output: Value
    unit_length: bool
    metadata: dict[str, str] = field(default_factory=dict)

    def consumers(self) -> dict[Value, list[Operation]]:
        """Return which operations read each value."""
        found: dict[Value, list[Operation]] = {}
        for operation in self.operations:
            for value in inputs_of(operation):
                found.setdefault(value, []).append(operation)
        return found
