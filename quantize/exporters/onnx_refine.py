"""Round the weights of an int8 ONNX file again, and correct its biases, on images.

A weight is rounded up or down so that it takes back the errors of those before it, as far as their
inputs are alike: Frantar et al., "GPTQ", ICLR 2023, here with the inputs that the layer has in the
int8 network. Then the mean error of each output channel is taken out of the bias: Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, in
its empirical form. Both go through the layers in order, so each one is behind corrected layers. The
file computes the same operators as before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantize.exporters.onnx_walk import Step, run_node, walk_nodes

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

_LAYERS = ("Conv", "Gemm")
_LARGEST_BIAS = 2**31 - 1
# Weights of an output channel beyond which a layer is rounded to the nearest: the time grows with
# their cube.
_LARGEST_SYSTEM = 1200
# Places of all images that a layer's inputs are taken from, and how many each input needs at least:
# with fewer, weights would be fitted to these images alone.
_PLACES, _PLACES_EACH = 8192, 4
# Added to the squared inputs, as a share of their mean, so that the system can be solved.
_DAMPING = 0.01


def name_layers(model: onnx.ModelProto) -> None:
    """Give layers with weights names of their own, by which they are found in both files."""
    taken = Counter(node.name for node in model.graph.node)
    for place, node in enumerate(model.graph.node):
        if node.op_type in _LAYERS and (not node.name or taken[node.name] > 1):
            node.name = f"layer_{place}_of_{node.output[0]}"


@dataclass(frozen=True)
class _Exact:
    """A layer of the float network: its node, and the mean of each output channel."""

    node: onnx.NodeProto
    means: NDArray[np.float64]


def refine(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    images: Tensor,
    *,
    batch: int | None = None,
    largest: int = 127,
) -> None:
    """Fit weights and biases of an int8 network to the float one, in place.

    Args:
        model: the float network; its layers have names of their own, see ``name_layers``.
        quantized: its QDQ form.
        images: (N, 3, H, W); they go through both networks layer by layer.
        batch: images in a call of networks that hold their batch; it divides N. None: all.
        largest: absolute weight.

    Raises:
        QuantizeError: ONNX Runtime cannot run a network.
    """
    from onnx import numpy_helper

    exact_weights = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = _Stored(quantized)
    waiting: dict[str, _Exact] = {}
    exact_steps = walk_nodes(model, images.numpy(), batch)
    for step in walk_nodes(quantized, images.numpy(), batch):
        if step.node.op_type not in _LAYERS:
            continue
        while step.node.name not in waiting:  # branches may come in another order
            exact = next(exact_steps)
            if exact.node.op_type in _LAYERS:
                waiting[exact.node.name] = _Exact(exact.node, _means(exact.output))
        layer = waiting.pop(step.node.name)
        weights = stored.of_one_layer(step.node, 1)
        exact_weight = exact_weights.get(layer.node.input[1])
        if len(weights) == 3 and exact_weight is not None:
            scale = stored.array(weights[1])
            rounded = rounded_weights(step, numpy_helper.to_array(exact_weight), scale, largest)
            if rounded is not None:
                stored.replace(weights[0], rounded)
                shape = [-1] + [1] * (rounded.ndim - 1)
                changed = rounded * scale.reshape(shape)
                inputs = step.inputs | {step.node.input[1]: changed.astype(np.float32)}
                step.output[...] = run_node(quantized, step.node, [inputs])[0][0]
        _correct_bias(step, layer, stored)


def _correct_bias(step: Step, layer: _Exact, stored: _Stored) -> None:
    """Take the mean error of each output channel out of a layer's bias, if it has one alone."""
    bias = stored.of_one_layer(step.node, 2)
    if not bias:
        return
    former = stored.array(bias[0])
    error = _means(step.output) - layer.means
    if len(bias) == 1:
        changed = (former - error).astype(former.dtype)
        shift = -error
    else:
        steps = stored.array(bias[1]).astype(np.float64)
        whole = np.clip(former - np.round(error / steps), -_LARGEST_BIAS, _LARGEST_BIAS)
        changed, shift = whole.astype(former.dtype), (whole - former) * steps
    stored.replace(bias[0], changed)
    # What comes behind is measured behind the corrected layer.
    shape = [-1] + [1] * (step.output.ndim - 2)
    step.output[...] += shift.astype(step.output.dtype).reshape(shape)


class _Stored:
    """The constants of a network in QDQ form."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._uses = Counter(name for node in model.graph.node for name in node.input)
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def of_one_layer(self, node: onnx.NodeProto, place: int) -> list[str]:
        """Return the names of what an input is made of: integers, scale, zero point; or floats.

        Nothing if it is not stored, or if another layer has it too.
        """
        name = node.input[place] if place < len(node.input) else ""
        maker = self._makers.get(name)
        names = [name] if maker is None else list(maker.input)
        if maker is not None and (maker.op_type != "DequantizeLinear" or self._uses[name] > 1):
            return []
        known = all(each in self._tensors for each in names)
        return names if known and self._uses[names[0]] == 1 else []

    def array(self, name: str) -> NDArray[Any]:
        from onnx import numpy_helper

        found: NDArray[Any] = numpy_helper.to_array(self._tensors[name])
        return found

    def replace(self, name: str, values: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self._tensors[name].CopyFrom(numpy_helper.from_array(values, name))


def rounded_weights(
    step: Step, weights: NDArray[np.float32], scale: NDArray[np.float32], largest: int = 127
) -> NDArray[np.int8] | None:
    """Return int8 weights of a dense layer; None for a layer whose weights stay as they are.

    Args:
        step: the layer in the int8 network, with what it reads there.
        weights: of the float network.
        scale: of each output channel, which are the first axis of the weights.
        largest: absolute weight.
    """
    node, flat = step.node, weights.reshape(len(weights), -1).astype(np.float64)
    if _attribute(node, "group", 1) > 1 or scale.size != len(weights):
        return None
    if node.op_type == "Gemm" and not _attribute(node, "transB", 0):
        return None
    if flat.shape[1] > _LARGEST_SYSTEM or weights.ndim not in (2, 4):
        return None
    columns = _columns(node, step.inputs[node.input[0]], weights.shape).astype(np.float64)
    if columns.shape[1] < _PLACES_EACH * len(columns):
        return None
    if len(node.input) > 2:  # the mean is left to the bias
        columns -= columns.mean(1, keepdims=True)
    products = columns @ columns.T / columns.shape[1]
    power = np.diag(products).copy()
    dead = power <= 1e-12 * max(float(power.max()), 1e-30)
    products[np.diag_indices_from(products)] += _DAMPING * float(power.mean()) + dead
    # Inputs that count most come first: the others can take back their errors.
    order = np.argsort(-power)
    try:
        upper = np.linalg.cholesky(np.linalg.inv(products[np.ix_(order, order)])).T
    except np.linalg.LinAlgError:  # inputs that are alike to the last bit
        return None
    left, steps = flat[:, order].copy(), np.where(scale > 0, scale, 1).astype(np.float64)
    rounded = np.zeros_like(left)
    for place in range(left.shape[1]):
        rounded[:, place] = np.clip(np.round(left[:, place] / steps), -largest, largest)
        error = (left[:, place] - rounded[:, place] * steps) / upper[place, place]
        left[:, place + 1 :] -= error[:, None] * upper[place, place + 1 :]
    restored = np.empty_like(rounded)
    restored[:, order] = rounded
    return restored.reshape(weights.shape).astype(np.int8)


def _columns(
    node: onnx.NodeProto, inputs: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return what a layer multiplies its weights with (inputs x taps, places), of some places."""
    if inputs.ndim == 2:
        return inputs.T
    rows, columns = shape[2:]
    down, right = _attribute(node, "strides", [1, 1])
    down_apart, right_apart = _attribute(node, "dilations", [1, 1])
    top, left, bottom, edge = _attribute(node, "pads", [0, 0, 0, 0])
    padded = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, edge)))
    height = (padded.shape[2] - down_apart * (rows - 1) - 1) // down + 1
    width = (padded.shape[3] - right_apart * (columns - 1) - 1) // right + 1
    places = len(inputs) * height * width
    chosen = np.linspace(0, places - 1, min(places, _PLACES)).astype(int)
    image, row, column = np.unravel_index(chosen, (len(inputs), height, width))
    parts = [
        padded[image, :, row * down + y * down_apart, column * right + x * right_apart]
        for y in range(rows)
        for x in range(columns)
    ]
    return np.stack(parts, 2).reshape(len(chosen), -1).T


def _means(output: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each channel of (N, C, ...)."""
    means: NDArray[np.float64] = output.mean(
        tuple(axis for axis in range(output.ndim) if axis != 1), dtype=np.float64
    )
    return means


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
