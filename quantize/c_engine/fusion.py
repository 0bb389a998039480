"""Which operations of a network one layer of the engine computes together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantize.c_engine.fixed_point import residual_fits
from quantize.c_engine.network import (
    Affine,
    Convolution,
    Elementwise,
    GlobalPooling,
    Network,
    Operation,
    Product,
    Quantization,
    Sum,
    Value,
)
from reid_edge.core.errors import QuantizeError

# Inputs of a sum; longer sums are split.
MOST_INPUTS = 8


@dataclass(frozen=True)
class Gate:
    """A gate: mean, layer of one pixel, ReLU (if rectified), layer, and a function."""

    pooling: GlobalPooling
    squeeze: Convolution
    excite: Convolution
    activation: Elementwise
    rectified: bool

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What it replaces."""
        return self.pooling, self.squeeze, self.excite, self.activation


def quantized(value: Value) -> Quantization:
    """Return how a value is quantized.

    Raises:
        QuantizeError: it is not.
    """
    if value.quantization is None:
        raise QuantizeError(f"node {value.name!r}: its result is not quantized to uint8")
    return value.quantization


class Fusion:
    """What is computed together; each operation that another one's layer computes is absorbed.

    Args:
        network: the network.

    Raises:
        QuantizeError: a gate, or the end of the network, is not of a supported form.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.consumers = network.consumers()
        self.makers = {operation.y: operation for operation in network.operations}
        self.absorbed: set[int] = set()
        self.gates: dict[Value, Gate] = {}
        self.terms: dict[Sum | Product, list[tuple[Value, Gate | None]]] = {}
        self.residuals: dict[Sum, tuple[Convolution, Value]] = {}
        self.depthwise_of: dict[Convolution, Convolution] = {}
        self._find_embedding()
        self._find_gates()
        self._find_sums()
        self._find_light_layers()

    def _only_consumer(self, value: Value) -> Operation | None:
        """Return the one operation that reads a value, if nothing else needs it."""
        readers = self.consumers.get(value, [])
        return readers[0] if len(readers) == 1 and value is not self.network.output else None

    def _absorb(self, operations: Iterable[Operation]) -> None:
        self.absorbed.update(id(operation) for operation in operations)

    def _find_embedding(self) -> None:
        """Take the last operations, from the mean on, as the embedding's layer."""
        value = self.network.output
        found: list[Operation] = []
        self.clamped = is_clamped(value)
        self.affine: Affine | None = None
        self.linear: Convolution | None = None
        self.pooled = False
        maker = self.makers.get(value)
        if isinstance(maker, Elementwise) and maker.kind == "Relu":
            self.clamped = True
            found, maker = [maker], self._made_for(maker.x)
        if isinstance(maker, Affine):
            self.affine, value = maker, maker.x
            found, maker = [*found, maker], self._made_for(value)
        if isinstance(maker, Convolution) and maker.y.height * maker.y.width == 1:
            covers = maker.weight.shape[2:] == (maker.x.height, maker.x.width)
            if covers and maker.groups == 1 and not any(maker.padding):
                self.linear, value = maker, maker.x
                found, maker = [*found, maker], self._made_for(value)
        if isinstance(maker, GlobalPooling):
            self.pooled = True
            found, value = [*found, maker], maker.x
        if not found:
            last = self.makers.get(value)
            name = last.name if last is not None else value.name
            raise QuantizeError(
                f"node {name!r}: the embedding has to be a mean or the result of a linear layer"
            )
        self.features = value
        self._absorb(found)

    def _made_for(self, value: Value) -> Operation | None:
        """Return what makes a value that one operation alone reads."""
        return self.makers.get(value) if len(self.consumers.get(value, [])) == 1 else None

    def _find_gates(self) -> None:
        for product in self.network.operations:
            if not isinstance(product, Product):
                continue
            x, gate = product.x, product.gate
            if (gate.height, gate.width) == (x.height, x.width) and gate.height * gate.width > 1:
                continue
            activation = self._made_for(gate)
            excite = self._made_for(activation.x) if isinstance(activation, Elementwise) else None
            squeeze = self._made_for(excite.x) if isinstance(excite, Convolution) else None
            rectified = isinstance(squeeze, Elementwise) and squeeze.kind == "Relu"
            if isinstance(squeeze, Elementwise) and rectified:
                self._absorb([squeeze])
                squeeze = self._made_for(squeeze.x)
            pooling = self._made_for(squeeze.x) if isinstance(squeeze, Convolution) else None
            if not (
                isinstance(activation, Elementwise)
                and isinstance(excite, Convolution)
                and isinstance(squeeze, Convolution)
                and isinstance(pooling, GlobalPooling)
                and excite.groups == squeeze.groups == 1
            ):
                raise QuantizeError(
                    f"node {product.name!r}: a gate has to be a mean, two linear layers and a "
                    "function of each number, which nothing else reads"
                )
            rectified = rectified or is_clamped(squeeze.y)
            found = Gate(pooling, squeeze, excite, activation, rectified)
            self.gates[gate] = found
            self._absorb(found.operations)

    def _find_sums(self) -> None:
        """Collect what is summed, and let a convolution add the other tensor itself."""
        for operation in self.network.operations:
            if isinstance(operation, Product) and operation.gate in self.gates:
                self.terms[operation] = [(operation.x, self.gates[operation.gate])]
            elif isinstance(operation, Sum):
                terms: list[tuple[Value, Gate | None]] = []
                for value in operation.inputs:
                    inner = self.makers.get(value)
                    inside = self.terms.get(inner, []) if isinstance(inner, Sum | Product) else []
                    only = self._only_consumer(value) is operation
                    fits = len(terms) + len(inside) < MOST_INPUTS
                    if inner is not None and inside and only and fits:
                        terms += inside
                        self._absorb([inner])
                    else:
                        terms.append((value, None))
                self.terms[operation] = terms
                self._find_residual(operation)

    def _find_residual(self, operation: Sum) -> None:
        terms = self.terms[operation]
        if len(terms) != 2 or any(gate for _, gate in terms):
            return
        order = {each: place for place, each in enumerate(self.network.operations)}
        for conv, other in sorted(
            (
                (maker, second)
                for (first, _), (second, _) in (terms, terms[::-1])
                if isinstance(maker := self.makers.get(first), Convolution)
                and self._only_consumer(first) is operation
            ),
            key=lambda pair: -order[pair[0]],
        ):
            scale = conv.weight_scale * quantized(conv.x).scale
            if not is_depthwise(conv) and residual_fits(scale, quantized(other).scale):
                self.residuals[operation] = conv, other
                self._absorb([conv])
                # A sum of this sum with others would need it as it is.
                del self.terms[operation]
                return

    def _find_light_layers(self) -> None:
        for conv in self.network.operations:
            reader = self._only_consumer(conv.y)
            if (
                isinstance(conv, Convolution)
                and isinstance(reader, Convolution)
                and id(conv) not in self.absorbed
                and is_pointwise(conv)
                and is_depthwise(reader)
                and reader.weight.shape[2:] == (3, 3)
                and (reader.stride, reader.dilation) == ((1, 1), (1, 1))
                and reader.padding == (1, 1, 1, 1)
            ):
                self.depthwise_of[reader] = conv
                self._absorb([conv])


def is_clamped(value: Value) -> bool:
    """Return whether a value's uint8 form has no numbers below zero: it went through a ReLU."""
    return value.quantization is not None and value.quantization.zero_point == 0


def is_pointwise(conv: Convolution) -> bool:
    """Return whether a convolution is of one pixel, of all channels."""
    return (
        conv.groups == 1
        and conv.weight.shape[2:] == (1, 1)
        and conv.stride == (1, 1)
        and not any(conv.padding)
    )


def is_depthwise(conv: Convolution) -> bool:
    """Return whether a convolution has one input channel for each output channel."""
    return conv.groups == conv.x.channels == len(conv.weight) and conv.groups > 1
