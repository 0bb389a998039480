"""Walk through the layers of two ONNX files of one model, and compare their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.exporters.onnx_edits import network_inputs
from quantize.exporters.onnx_float import read_onnx
from reid_edge.core.errors import QuantizeError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_CLIPPING = ("Relu", "Clip")
# Of files with the same names these are compared too: ONNX Runtime's int8 puts activations into the
# layers in front of them, and makes average pooling a convolution.
_OTHERS = (
    "Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Add", "Mul",
    "Concat",
    "AveragePool", "GlobalAveragePool", "MaxPool", "InstanceNormalization", "BatchNormalization",
)  # fmt: skip
_DEQUANTIZE = "DequantizeLinear"


@dataclass(frozen=True)
class Layer:
    """A layer in both files.

    Attributes:
        name: of its output in the float file.
        operator: such as "Conv".
        error: length of the difference of both outputs, as a share of the float one's length.
        outside: share of the float values outside the range of the other ones; 0 if not quantized.
        quantized: whether the output is int8 in the other file.
        border: share of the squared difference that is in the outermost pixels; 0 for vectors.
        shared: how many times as large as its own the float range of another layer is that has the
            same int8 range; 1 if there is none, or if it is not quantized.
    """

    name: str
    operator: str
    error: float
    outside: float
    quantized: bool
    border: float = 0.0
    shared: float = 1.0


def walk(
    float_file: Path, other: Path, images: NDArray[Any], others: NDArray[Any] | None = None
) -> list[Layer]:
    """Compare the outputs of layers, in order.

    Layers are matched by the names of their outputs. If these are not the same, convolutions and
    linear layers are matched by their order, provided that the same ones with the same shapes are
    in both files.

    Args:
        float_file: of the model.
        other: another file of it, in float or int8 (QDQ), with images as its only input.
        images: float32 (N, 3, H, W), prepared as the model takes them.
        others: the same images as the other file takes them; None: in the same form.

    Returns:
        The layers; empty if they cannot be matched.

    Raises:
        QuantizeError: a file cannot be read or run.
    """
    import numpy as np

    first, second = read_onnx(float_file), read_onnx(other)
    pairs = _matched(first, second)
    ranges = _dequantized(second)
    wanted = [(mine, ranges.get(theirs, theirs)) for mine, theirs, _ in pairs]
    inputs = [value for model in (second, first) for value in network_inputs(model.graph)]
    fixed = [value.type.tensor_type.shape.dim[0].dim_value for value in inputs]
    batch = next(filter(None, fixed), len(images))
    # They are repeated until a fixed batch is full.
    images, others = (
        np.resize(each, (batch, *each.shape[1:]))
        for each in (images, images if others is None else others)
    )
    exact = _outputs(first, [mine for mine, _ in wanted], images)
    found = _outputs(second, [theirs for _, theirs in wanted], others)
    scales = _scales(second)
    extents = [float(np.ptp(one)) for one in exact]
    widest: dict[object, float] = {}
    for (_, theirs, _), extent in zip(pairs, extents, strict=True):
        if theirs in scales:
            widest[scales[theirs]] = max(extent, widest.get(scales[theirs], 0.0))
    layers = []
    for (mine, theirs, operator), one, two, extent in zip(
        pairs, exact, found, extents, strict=True
    ):
        if one.shape != two.shape:
            return []
        quantized = theirs in ranges
        difference = np.linalg.norm((one - two).ravel())
        length = max(float(np.linalg.norm(one.ravel())), 1e-12)
        step = 1e-6 * float(np.abs(one).max())
        outside = ((one > two.max() + step) | (one < two.min() - step)).mean() if quantized else 0.0
        layers.append(
            Layer(
                name=mine,
                operator=operator,
                error=float(difference) / length,
                outside=float(outside),
                quantized=quantized,
                border=_border_share(one - two),
                shared=widest[scales[theirs]] / max(extent, 1e-12) if theirs in scales else 1.0,
            )
        )
    return layers


def _border_share(difference: NDArray[Any]) -> float:
    """Return the share of a squared difference (N, C, H, W) that is in the outermost pixels."""
    if difference.ndim != 4 or min(difference.shape[2:]) < 3:
        return 0.0
    squares = difference.astype(float) ** 2
    whole = float(squares.sum())
    return 1 - float(squares[:, :, 1:-1, 1:-1].sum()) / whole if whole > 0 else 0.0


def _scales(model: onnx.ModelProto) -> dict[str, tuple[float, int]]:
    """Return scale and zero point of each tensor that is rounded to int8 with one of each."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and all(name in stored for name in node.input[1:3]):
            scale, *zero = (numpy_helper.to_array(stored[name]) for name in node.input[1:3])
            if scale.size == 1:
                found[node.input[0]] = float(scale.item()), int(zero[0].item()) if zero else 0
    return found


def _layers(model: onnx.ModelProto, operators: Sequence[str]) -> list[tuple[str, str]]:
    """Return output and operator of each layer, in the order in which they are run."""
    return [
        (node.output[0], node.op_type) for node in model.graph.node if node.op_type in operators
    ]


def _matched(first: onnx.ModelProto, second: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """Return the names of a layer's output in both files, and its operator."""
    made = {name for node in second.graph.node for name in node.output}
    mine = _layers(first, (*_WEIGHTED, *_OTHERS))
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in first.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    common: dict[str, tuple[str, str, str]] = {}
    for name, operator in mine:
        after = readers.get(name, [])
        clipped = after[0].output[0] if len(after) == 1 and after[0].op_type in _CLIPPING else name
        # An int8 layer in front of a clipping has the range behind it, and may have taken it up.
        theirs = clipped if clipped in made else name
        if theirs in made:
            common.setdefault(clipped, (clipped, theirs, operator))
    if common and 4 * len(common) > len(mine):
        return list(common.values())
    mine, others = (_layers(model, _WEIGHTED) for model in (first, second))
    if [operator for _, operator in mine] != [operator for _, operator in others]:
        return []
    return [(one, two, operator) for (one, operator), (two, _) in zip(mine, others, strict=True)]


def _dequantized(model: onnx.ModelProto) -> dict[str, str]:
    """Return the tensors that are rounded to int8, with their rounded forms."""
    readers = {name: node for node in model.graph.node for name in node.input}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            reader = readers.get(node.output[0])
            if reader is not None and reader.op_type == _DEQUANTIZE:
                found[node.input[0]] = reader.output[0]
    return found


def _outputs(model: onnx.ModelProto, names: list[str], images: NDArray[Any]) -> list[Any]:
    """Run a network and return tensors inside of it.

    Raises:
        QuantizeError: ONNX Runtime cannot run it.
    """
    import onnx
    import onnxruntime

    if not names:
        return []
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    given = {value.name for value in seen.graph.output}
    seen.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in given
    )
    options = onnxruntime.SessionOptions()
    # Fused layers have no outputs of their own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # errors are raised, and need not be printed
    (input_,) = network_inputs(seen.graph)
    try:
        session = onnxruntime.InferenceSession(
            seen.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found: list[Any] = session.run(names, {input_.name: images})
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise QuantizeError(f"ONNX Runtime cannot run the layers: {reason}") from error
    return found
