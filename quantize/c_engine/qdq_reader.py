"""Read a QDQ file, as ``onnx_int8`` writes it, as a network of the engine.

A tensor is rounded where the file has QuantizeLinear; what has none is refused by its node's name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quantize.c_engine.network import (
    Affine,
    Concatenation,
    Convolution,
    Elementwise,
    GlobalPooling,
    InstanceNorm,
    Network,
    Operation,
    Pooling,
    Product,
    Quantization,
    Sum,
    Value,
)
from quantize.exporters.onnx_float import read_onnx
from reid_edge.core.errors import QuantizeError

if TYPE_CHECKING:
    import onnx

Reals = NDArray[np.float64]


def _sigmoid(x: Reals) -> Reals:
    return 1 / (1 + np.exp(-x))


# Functions of one number, by the operator; those with attributes are below.
FUNCTIONS: dict[str, Callable[[Reals], Reals]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": _sigmoid,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Tanh": np.tanh,
}


def read_network(path: Path) -> Network:
    """Read a QDQ file.

    Raises:
        QuantizeError: it is no ONNX file, or has a node that the engine does not support; the
            message names the node.
    """
    return _Reader(path).read()


class _Reader:
    """Goes through the nodes of a file once, in order."""

    def __init__(self, path: Path) -> None:
        from onnx import numpy_helper

        self.path = path
        self.model = read_onnx(path)
        self.constants: dict[str, NDArray[Any]] = {
            each.name: numpy_helper.to_array(each) for each in self.model.graph.initializer
        }
        self.scales: dict[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = {}
        self.values: dict[str, Value] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and "value" in (found := _attributes(node)):
                self.constants[node.output[0]] = numpy_helper.to_array(found["value"])
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        # Results that no QuantizeLinear has rounded yet.
        self.unrounded: set[str] = set()
        self.lengths: dict[str, Value] = {}
        self.operations: list[Operation] = []
        self.unit: tuple[str, Value] | None = None

    def read(self) -> Network:
        graph = self.model.graph
        image = self._image()
        for node in graph.node:
            reader = getattr(self, f"_read_{node.op_type.lower()}", None)
            if reader is not None:
                reader(node)
            elif node.op_type in FUNCTIONS:
                self._function(node, FUNCTIONS[node.op_type])
            else:
                raise self._refusal(node, f"the C engine has no operator {node.op_type}")
        name = graph.output[0].name
        unit_length = self.unit is not None and self.unit[0] == name
        output = self.unit[1] if self.unit and unit_length else self.values.get(name)
        if output is None or len(graph.output) != 1:
            raise QuantizeError(f"{self.path}: its output is not one embedding of an image")
        metadata = {entry.key: entry.value for entry in self.model.metadata_props}
        return Network(image, self.operations, output, unit_length, metadata)

    def _image(self) -> Value:
        from onnx import TensorProto

        inputs = [each for each in self.model.graph.input if each.name not in self.constants]
        if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
            raise QuantizeError(
                f"{self.path}: its input {inputs[0].name!r} is of pixels, and the engine "
                "normalises images itself; export without --input"
            )
        shape = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or not shape[2] or not shape[3]:
            raise QuantizeError(f"{self.path}: its input is not images (N, 3, H, W) of one size")
        image = Value(inputs[0].name, 3, shape[2], shape[3])
        self.values[image.name] = image
        self.unrounded.add(image.name)
        return image

    def _refusal(self, node: onnx.NodeProto, reason: str) -> QuantizeError:
        return QuantizeError(f"{self.path}: node {node.name or node.output[0]!r}: {reason}")

    def _value(self, node: onnx.NodeProto, place: int = 0) -> Value:
        """Return the rounded value that a node reads."""
        name = node.input[place]
        if name not in self.values:
            raise self._refusal(node, f"its input {name!r} is not a result of the network")
        if name in self.unrounded:
            raise self._refusal(node, f"its input {name!r} is not quantized to uint8")
        return self.values[name]

    def _result(self, node: onnx.NodeProto, channels: int, height: int, width: int) -> Value:
        if min(height, width) < 1:
            raise self._refusal(node, f"gives {height} x {width} pixels; the input is too small")
        value = Value(node.output[0], channels, height, width)
        self.values[value.name] = value
        self.unrounded.add(value.name)
        return value

    def _read_quantizelinear(self, node: onnx.NodeProto) -> None:
        scale, zero = (self.constants.get(name) for name in node.input[1:3])
        if node.input[0] in self.constants and scale is not None and zero is not None:
            self._quantize_constant(node, scale, zero)
            return
        if scale is None or zero is None or zero.dtype != np.uint8 or scale.size != 1:
            raise self._refusal(node, "activations have to be uint8 with one scale")
        quantization = Quantization(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]))
        if node.input[0] not in self.values:
            raise self._refusal(node, f"its input {node.input[0]!r} is not a result of the network")
        value = self.values[node.input[0]]
        if value.quantization is None:
            value.quantization = quantization
        elif value.quantization != quantization:
            other = Value(node.output[0], value.channels, value.height, value.width, quantization)
            self.operations.append(Elementwise(node.name, value, other, "Identity", lambda x: x))
            value = other
        self.values[node.output[0]] = value

    def _quantize_constant(
        self, node: onnx.NodeProto, scale: NDArray[Any], zero: NDArray[Any]
    ) -> None:
        """Round stored weights, which a file of quantization-aware training holds as floats."""
        values = self.constants[node.input[0]]
        axis, limits = _attributes(node).get("axis", 1) % values.ndim, np.iinfo(zero.dtype)
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        by, start = (
            each.reshape(shape) if each.size > 1 else each.reshape(()) for each in (scale, zero)
        )
        rounded = np.round(values / by) + start
        self.constants[node.output[0]] = np.clip(rounded, limits.min, limits.max).astype(zero.dtype)

    def _read_dequantizelinear(self, node: onnx.NodeProto) -> None:
        source, *parameters = node.input
        if source in self.values:
            self.values[node.output[0]] = self.values[source]
            return
        stored = [self.constants.get(name) for name in (source, *parameters)]
        if any(each is None for each in stored) or len(stored) != 3:
            raise self._refusal(node, "its scale and zero point have to be stored in the file")
        weight, scale, zero = (np.asarray(each) for each in stored)
        if zero.any():
            raise self._refusal(node, "weights have to be symmetric, with zero points of 0")
        self.scales[node.output[0]] = weight, scale, zero

    def _weight(self, node: onnx.NodeProto, place: int) -> tuple[NDArray[np.int8], Reals]:
        """Return int8 weights, and the scale of each output channel or of all, (N,) or (1,)."""
        name = node.input[place]
        if name not in self.scales or self.scales[name][0].dtype != np.int8:
            raise self._refusal(node, "its weights are not int8")
        weight, scale, _ = self.scales[name]
        return weight, scale.reshape(-1).astype(np.float64)

    def _real(self, node: onnx.NodeProto, place: int, size: int) -> Reals:
        """Return stored numbers (size,), quantized or not; zeros where there are none."""
        name = node.input[place] if place < len(node.input) else ""
        if not name:
            return np.zeros(size)
        if name in self.scales:
            stored, scale, _ = self.scales[name]
            return stored.astype(np.float64).reshape(-1) * scale.astype(np.float64).reshape(-1)
        if name not in self.constants:
            raise self._refusal(node, f"{name!r} has to be stored in the file")
        return self.constants[name].astype(np.float64).reshape(-1)

    def _read_conv(self, node: onnx.NodeProto) -> None:
        x = self._value(node)
        weight, scale = self._weight(node, 1)
        if weight.ndim != 4:
            raise self._refusal(node, "only convolutions in two dimensions are supported")
        found = _attributes(node)
        if found.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise self._refusal(node, "its padding has to be given in numbers")
        rows, columns = weight.shape[2:]
        stride, dilation = _pair(found.get("strides")), _pair(found.get("dilations"))
        padding = _padding(found)
        height = _windows(x.height, rows, stride[0], dilation[0], padding[0] + padding[2])
        width = _windows(x.width, columns, stride[1], dilation[1], padding[1] + padding[3])
        y = self._result(node, len(weight), height, width)
        self.operations.append(
            Convolution(
                name=node.name,
                x=x,
                y=y,
                weight=weight,
                weight_scale=np.broadcast_to(scale, len(weight)),
                bias=self._real(node, 2, len(weight)),
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=found.get("group", 1),
            )
        )

    def _read_gemm(self, node: onnx.NodeProto) -> None:
        x = self._value(node)
        found = _attributes(node)
        if found.get("transA", 0) or found.get("alpha", 1.0) != 1 or found.get("beta", 1.0) != 1:
            raise self._refusal(node, "only alpha = beta = 1 without transA is supported")
        weight, scale = self._weight(node, 1)
        self._linear(node, x, weight if found.get("transB", 0) else weight.T, scale, 2)

    def _read_matmul(self, node: onnx.NodeProto) -> None:
        weight, scale = self._weight(node, 1)
        self._linear(node, self._value(node), weight.T, scale, 2)

    def _linear(
        self, node: onnx.NodeProto, x: Value, weight: NDArray[np.int8], scale: Reals, bias: int
    ) -> None:
        if weight.shape[1] != x.channels * x.height * x.width:
            raise self._refusal(node, "its weights do not fit its input")
        y = self._result(node, len(weight), 1, 1)
        shaped = np.ascontiguousarray(weight).reshape(len(weight), x.channels, x.height, x.width)
        scales = np.broadcast_to(scale, len(weight))
        numbers = self._real(node, bias, len(weight))
        self.operations.append(Convolution(node.name, x, y, shaped, scales, numbers))

    def _read_maxpool(self, node: onnx.NodeProto) -> None:
        self._pooling(node, "max")

    def _read_averagepool(self, node: onnx.NodeProto) -> None:
        found = _attributes(node)
        if found.get("count_include_pad", 0) and any(_padding(found)):
            raise self._refusal(node, "average pooling that counts its padding is not supported")
        self._pooling(node, "average")

    def _pooling(self, node: onnx.NodeProto, kind: Literal["max", "average"]) -> None:
        x, found = self._value(node), _attributes(node)
        if found.get("auto_pad", b"NOTSET") != b"NOTSET" or set(found.get("dilations", ())) - {1}:
            raise self._refusal(node, "its padding has to be given in numbers, without dilation")
        kernel, stride, padding = (
            _pair(found["kernel_shape"]),
            _pair(found.get("strides")),
            _padding(found),
        )
        if found.get("ceil_mode", 0):
            # The last window may reach over the edge; what is outside does not count.
            top, left, bottom, right = padding
            bottom += -(x.height + top + bottom - kernel[0]) % stride[0]
            right += -(x.width + left + right - kernel[1]) % stride[1]
            padding = top, left, bottom, right
        height = _windows(x.height, kernel[0], stride[0], 1, padding[0] + padding[2])
        width = _windows(x.width, kernel[1], stride[1], 1, padding[1] + padding[3])
        y = self._result(node, x.channels, height, width)
        self.operations.append(Pooling(node.name, x, y, kind, kernel, stride, padding))

    def _read_globalaveragepool(self, node: onnx.NodeProto) -> None:
        x = self._value(node)
        y = self._result(node, x.channels, 1, 1)
        self.operations.append(GlobalPooling(node.name, x, y))

    def _read_constant(self, node: onnx.NodeProto) -> None:
        if node.output[0] not in self.constants:
            raise self._refusal(node, "only constants that are tensors are supported")

    def _read_identity(self, node: onnx.NodeProto) -> None:
        source, target = node.input[0], node.output[0]
        if source in self.values:
            self.values[target] = self.values[source]
        if source in self.constants:
            self.constants[target] = self.constants[source]
        if source in self.scales:
            self.scales[target] = self.scales[source]
        if source in self.unrounded:
            self.unrounded.add(target)

    def _read_reducemean(self, node: onnx.NodeProto) -> None:
        axes = _attributes(node).get("axes")
        if axes is None and len(node.input) > 1:
            axes = self.constants.get(node.input[1])
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            raise self._refusal(node, "only the mean over rows and columns is supported")
        self._read_globalaveragepool(node)

    def _read_flatten(self, node: onnx.NodeProto) -> None:
        if _attributes(node).get("axis", 1) != 1:
            raise self._refusal(node, "only flattening from axis 1 is supported")
        self.values[node.output[0]] = self._value(node)

    def _read_reshape(self, node: onnx.NodeProto) -> None:
        shape = self.constants.get(node.input[1])
        if shape is None or len(shape) != 2 or shape[0] not in (0, -1):
            raise self._refusal(node, "only a reshape to (N, numbers) is supported")
        self.values[node.output[0]] = self._value(node)

    def _read_add(self, node: onnx.NodeProto) -> None:
        a, b = self._value(node), self._value(node, 1)
        if _shape(a) != _shape(b):
            raise self._refusal(node, f"adds {_shape(a)} and {_shape(b)}, which differ")
        self.operations.append(Sum(node.name, (a, b), self._result(node, *_shape(a))))

    def _read_mul(self, node: onnx.NodeProto) -> None:
        a, b = self._value(node), self._value(node, 1)
        x, gate = (b, a) if _shape(a) == (b.channels, 1, 1) else (a, b)
        if _shape(gate) not in (_shape(x), (x.channels, 1, 1)):
            raise self._refusal(node, f"multiplies {_shape(a)} by {_shape(b)}")
        self.operations.append(Product(node.name, x, gate, self._result(node, *_shape(x))))

    def _read_concat(self, node: onnx.NodeProto) -> None:
        inputs = tuple(self._value(node, place) for place in range(len(node.input)))
        planes = {(value.height, value.width) for value in inputs}
        if _attributes(node).get("axis") != 1 or len(planes) != 1:
            raise self._refusal(node, "only channels of one size can be concatenated")
        y = self._result(node, sum(value.channels for value in inputs), *planes.pop())
        self.operations.append(Concatenation(node.name, inputs, y))

    def _read_instancenormalization(self, node: onnx.NodeProto) -> None:
        x = self._value(node)
        self.operations.append(
            InstanceNorm(
                name=node.name,
                x=x,
                y=self._result(node, *_shape(x)),
                gamma=self._real(node, 1, x.channels),
                beta=self._real(node, 2, x.channels),
                epsilon=float(_attributes(node).get("epsilon", 1e-5)),
            )
        )

    def _read_batchnormalization(self, node: onnx.NodeProto) -> None:
        x = self._value(node)
        gamma, beta, mean, variance = (
            np.broadcast_to(self._real(node, place, x.channels), x.channels)
            for place in range(1, 5)
        )
        factor = gamma / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
        y = self._result(node, *_shape(x))
        self.operations.append(Affine(node.name, x, y, factor, beta - mean * factor))

    def _read_hardsigmoid(self, node: onnx.NodeProto) -> None:
        found = _attributes(node)
        alpha, beta = found.get("alpha", 0.2), found.get("beta", 0.5)
        self._function(node, lambda x: np.clip(alpha * x + beta, 0, 1))

    def _read_leakyrelu(self, node: onnx.NodeProto) -> None:
        alpha = _attributes(node).get("alpha", 0.01)
        self._function(node, lambda x: np.where(x < 0, alpha * x, x))

    def _read_relu(self, node: onnx.NodeProto) -> None:
        if not self._is_left_to_rounding(node, 0, np.inf):
            self._function(node, FUNCTIONS["Relu"])

    def _is_left_to_rounding(self, node: onnx.NodeProto, low: float, high: float) -> bool:
        """Take a clipping of what is not rounded yet as done, if the range of int8 does it anyway.

        Files of quantization-aware training have it between a layer and its rounding.
        """
        source, output = node.input[0], node.output[0]
        readers = self.readers.get(output, [])
        if source not in self.unrounded or len(self.readers[source]) > 1 or len(readers) != 1:
            return False
        (reader,) = readers
        numbers = [self.constants.get(name) for name in reader.input[1:3]]
        if reader.op_type != "QuantizeLinear" or any(each is None for each in numbers):
            return False
        scale, zero = (float(np.asarray(each).reshape(-1)[0]) for each in numbers)
        if -zero * scale < low - scale / 2 or (255 - zero) * scale > high + scale / 2:
            return False
        self.values[output] = self.values[source]
        self.unrounded.add(output)
        return True

    def _read_clip(self, node: onnx.NodeProto) -> None:
        if node.input[0] in self.lengths:
            self.lengths[node.output[0]] = self.lengths[node.input[0]]
            return
        low, high = (
            float(self.constants[name]) if name else limit
            for name, limit in zip((*node.input[1:], "", "")[:2], (-np.inf, np.inf), strict=True)
        )
        if self._is_left_to_rounding(node, low, high):
            return
        self._function(node, lambda x: np.clip(x, low, high))

    def _function(self, node: onnx.NodeProto, function: Callable[[Reals], Reals]) -> None:
        x = self._value(node)
        y = self._result(node, *_shape(x))
        self.operations.append(Elementwise(node.name, x, y, node.op_type, function))

    # Unit length: a division by the length, which is at least a tiny number.
    def _read_reducel2(self, node: onnx.NodeProto) -> None:
        value = self.values.get(node.input[0])
        if value is None or value.height * value.width != 1:
            raise self._refusal(node, "only the length of an embedding can be taken")
        self.lengths[node.output[0]] = value

    def _read_div(self, node: onnx.NodeProto) -> None:
        value, length = self.values.get(node.input[0]), self.lengths.get(node.input[1])
        if value is None or value is not length:
            raise self._refusal(node, "only an embedding can be divided, by its own length")
        self.unit = node.output[0], value


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _pair(values: list[int] | None) -> tuple[int, int]:
    first, second = values or (1, 1)
    return first, second


def _padding(found: dict[str, Any]) -> tuple[int, int, int, int]:
    top, left, bottom, right = found.get("pads", (0, 0, 0, 0))
    return top, left, bottom, right


def _windows(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    return int((size + padding - dilation * (kernel - 1) - 1) // stride + 1)


def _shape(value: Value) -> tuple[int, int, int]:
    return value.channels, value.height, value.width
