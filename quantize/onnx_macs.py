"""The multiply-accumulates of an ONNX file, for one image."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.exporters.onnx_float import read_onnx

if TYPE_CHECKING:
    import onnx

QUANTIZED = "QuantizeLinear"


@dataclass(frozen=True)
class OnnxCost:
    """What a file computes.

    Attributes:
        macs: multiply-accumulates of convolutions and linear layers for one image.
        int8: whether activations are quantized in it.
    """

    macs: int
    int8: bool


def onnx_cost(path: Path) -> OnnxCost | None:
    """Count the multiply-accumulates of convolutions and products with weights.

    In int8 files of this program pooling is a convolution too, which adds less than a hundredth.

    Args:
        path: of a file, float or QDQ int8.

    Returns:
        The cost; None if the shapes that it depends on are not known.

    Raises:
        QuantizeError: the file cannot be read.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(read_onnx(path))
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:  # weights of int8 files go through these
        if node.op_type in ("DequantizeLinear", "Transpose") and node.input[0] in weights:
            dims = weights[node.input[0]]
            turned = node.op_type == "Transpose"
            weights[node.output[0]] = tuple(reversed(dims)) if turned else dims
    shapes = {value.name: _shape(value) for value in (*model.graph.value_info, *model.graph.output)}
    macs = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weight = weights.get(node.input[1])
        if weight is None:  # the product of two activations, which no published network has
            return None
        if node.op_type != "Conv":
            macs += prod(weight)
            continue
        places = shapes.get(node.output[0], ())[2:]
        if not places or 0 in places:
            return None
        macs += prod(weight) * prod(places)
    return OnnxCost(macs, any(node.op_type == QUANTIZED for node in model.graph.node))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the sides of a tensor, 0 where one is not known."""
    return tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
