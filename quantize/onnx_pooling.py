"""Average pooling written as a convolution, which int8 kernels are fast at."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from reid_edge.core.errors import QuantizeError


def pooling_as_convolution(model: onnx.ModelProto) -> int:
    """Replace average pooling by depthwise convolutions with equal weights, in place.

    ONNX Runtime's int8 average pooling takes ten times as long as its int8 depthwise convolution of
    the same size: in OSNet x0.5 two pooling layers are a tenth of the whole
    (docs/results/latency.md). The weights of a channel are all equal, so int8 holds them without an
    error. Pooling with padding stays, because its divisor changes at the border.

    Args:
        model: a model whose shapes are inferred (``onnx.shape_inference``).

    Returns:
        The number of pooling layers replaced.

    Raises:
        QuantizeError: the shape of a pooling layer's input is not known.
    """
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.input)
    }
    replaced = 0
    for node in model.graph.node:
        if node.op_type != "AveragePool" or _is_padded(node):
            continue
        channels = (shapes.get(node.input[0]) or [0, 0])[1]
        if not channels:
            raise QuantizeError(f"{node.name}: the number of its channels is not known")
        _replace(model.graph, node, channels)
        replaced += 1
    return replaced


def _is_padded(node: onnx.NodeProto) -> bool:
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    padded = any(attributes.get("pads", ())) or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
    return padded or bool(attributes.get("ceil_mode", 0))


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, channels: int) -> None:
    kept = [entry for entry in node.attribute if entry.name in ("kernel_shape", "strides")]
    kernel = next(entry.ints for entry in kept if entry.name == "kernel_shape")
    weights = np.full((channels, 1, *kernel), 1 / np.prod(kernel), dtype=np.float32)
    name = f"{node.output[0]}_weights"
    graph.initializer.append(numpy_helper.from_array(weights, name))
    node.op_type = "Conv"
    node.input.append(name)
    attributes = [*kept, helper.make_attribute("group", channels)]
    del node.attribute[:]
    node.attribute.extend(attributes)
