"""Normalisation inside an ONNX graph, as far as possible inside its first convolution.

A convolution is linear, so that its weights take up the scale and the order of the colours exactly.
Its bias takes up the mean only where nothing is padded: padded zeros stand for the mean colour.
With padding, one subtraction of the mean stays in front of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantize.exporters.onnx_edits import free_names, graphs_of
from reid_edge.core.exporter import PixelInput
from reid_edge.core.model_file import ONNX_INPUT

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_NAMES = ("pixels", "pixel_mean", "pixel_scale", "pixel_order", "centred", "scaled", "ordered")


def take_pixels(model: onnx.ModelProto, pixels: PixelInput) -> None:
    """Let a network take pixels in uint8 in place of normalised images, in place.

    Args:
        model: with the input ``input``, float32 (N, 3, H, W).
        pixels: order, mean and std of the colours.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    free_names(graph, _NAMES)
    mean = 255 * np.array(pixels.mean, np.float64)
    scale = 1 / (255 * np.array(pixels.std, np.float64))
    readers = [
        (node, place)
        for each in graphs_of(graph)
        for node in each.node
        for place, name in enumerate(node.input)
        if name == ONNX_INPUT
    ]
    convolutions = [_first_convolution(graph, node, place) for node, place in readers]
    new: list[onnx.NodeProto] = [
        helper.make_node("Cast", [ONNX_INPUT], ["pixels"], to=onnx.TensorProto.FLOAT)
    ]

    def then(kind: str, name: str, values: NDArray[Any], output: str, **attributes: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(values, name))
        new.append(helper.make_node(kind, [new[-1].output[0], name], [output], **attributes))

    planes = (1, 3, 1, 1)
    folds = bool(convolutions) and None not in convolutions
    padded = any(_is_padded(node) for node, _ in readers)
    if not folds or padded:
        then("Sub", "pixel_mean", mean.reshape(planes).astype(np.float32), "centred")
    if not folds:
        then("Mul", "pixel_scale", scale.reshape(planes).astype(np.float32), "scaled")
        if pixels.reverse:
            then("Gather", "pixel_order", np.array([2, 1, 0]), "ordered", axis=1)
    for (node, place), weight in zip(readers, convolutions, strict=True):
        node.input[place] = new[-1].output[0]
        if folds and weight is not None:
            _fold(graph, node, weight, mean if not padded else None, scale, pixels.reverse)
    nodes = [*new, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    # The former weights, unless something else reads them.
    used = {name for each in graphs_of(graph) for node in each.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)
    (images,) = [value for value in graph.input if value.name == ONNX_INPUT]
    images.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    del graph.value_info[:]


def _first_convolution(
    graph: onnx.GraphProto, node: onnx.NodeProto, place: int
) -> onnx.TensorProto | None:
    """Return the weights (K, 3, ...) of a convolution of the images, or None for other nodes."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
    known = all(name in tensors for name in node.input[1:] if name)
    if node.op_type != "Conv" or place != 0 or groups not in ([], [1]) or not known:
        return None
    weight = tensors[node.input[1]]
    return weight if weight.data_type == 1 and list(weight.dims)[1:2] == [3] else None


def _is_padded(node: onnx.NodeProto) -> bool:
    for attribute in node.attribute:
        if attribute.name == "pads" and any(attribute.ints):
            return True
        if attribute.name == "auto_pad" and attribute.s not in (b"NOTSET", b"VALID", b""):
            return True
    return False


def _fold(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    weight: onnx.TensorProto,
    mean: NDArray[Any] | None,
    scale: NDArray[Any],
    reverse: bool,
) -> None:
    """Give a convolution weights for pixels, and a bias that takes up the mean if it is given."""
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(weight).astype(np.float64)
    ordered = values[:, ::-1] if reverse else values
    scaled = ordered * scale.reshape(1, 3, *[1] * (values.ndim - 2))
    name = f"{weight.name}_of_pixels"
    graph.initializer.append(numpy_helper.from_array(scaled.astype(np.float32), name))
    former = list(node.input)
    bias = np.zeros(len(values))
    if len(former) > 2 and former[2]:
        (tensor,) = [one for one in graph.initializer if one.name == former[2]]
        bias = numpy_helper.to_array(tensor).astype(np.float64)
    if mean is not None:
        shift = scaled.sum(axis=tuple(range(2, values.ndim))) @ mean
        graph.initializer.append(
            numpy_helper.from_array((bias - shift).astype(np.float32), f"{name}_bias")
        )
        former = [*former[:2], f"{name}_bias"]
    former[1] = name
    del node.input[:]
    node.input.extend(former)
