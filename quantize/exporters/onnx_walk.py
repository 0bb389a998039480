"""Run an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quantize.exporters.onnx_edits import network_inputs
from reid_edge.core.errors import QuantizeError

if TYPE_CHECKING:
    import onnx


@dataclass
class Step:
    """A node that has run.

    Attributes:
        node: the node.
        inputs: by name; those of several batches are one behind the other.
        output: its first output, likewise. What is written into it is what the nodes behind it
            read.
    """

    node: onnx.NodeProto
    inputs: dict[str, NDArray[Any]]
    output: NDArray[Any]


@dataclass(frozen=True)
class _Value:
    """What batches have as one tensor, one behind the other; or what is the same for all."""

    array: NDArray[Any]
    batches: int = 1


def walk_nodes(
    model: onnx.ModelProto, images: NDArray[Any], batch: int | None = None
) -> Iterator[Step]:
    """Run a graph node by node; a value is dropped after its last use.

    Args:
        model: a network with one input; its order is one of execution.
        images: (N, 3, H, W).
        batch: images in a call of a network that holds its batch; it divides N. None: all.

    Raises:
        QuantizeError: ONNX Runtime cannot run a node, or batches give tensors of different shapes.
    """
    from onnx import numpy_helper

    graph = model.graph
    (input_,) = network_inputs(graph)
    values = {tensor.name: _Value(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    values[input_.name] = _Value(images, 1 if batch is None else len(images) // batch)
    last = {name: place for place, node in enumerate(graph.node) for name in node.input}
    for place, node in enumerate(graph.node):
        inputs = {name: values[name] for name in node.input if name}
        found = run_node(model, node, _by_batch(inputs))
        outputs = [_joined(node, each) for each in zip(*found, strict=True)]
        values |= zip(node.output, outputs, strict=True)
        yield Step(node, {name: each.array for name, each in inputs.items()}, outputs[0].array)
        for name in inputs:
            if last[name] == place:
                del values[name]


def _by_batch(inputs: Mapping[str, _Value]) -> list[dict[str, NDArray[Any]]]:
    """Return the inputs of a node for each batch, by name."""
    import numpy as np

    count = max((each.batches for each in inputs.values()), default=1)
    parts = {
        name: np.split(each.array, count) if each.batches > 1 else [each.array] * count
        for name, each in inputs.items()
    }
    return [{name: each[number] for name, each in parts.items()} for number in range(count)]


def _joined(node: onnx.NodeProto, outputs: Sequence[NDArray[Any]]) -> _Value:
    """Return an output of a node, of all batches."""
    import numpy as np

    first = outputs[0]
    if len(outputs) == 1:
        return _Value(first)
    if any(each.shape != first.shape for each in outputs):
        raise QuantizeError(f"{node.name!r} gives batches tensors of different shapes")
    if first.ndim:
        return _Value(np.concatenate(outputs), len(outputs))
    if any(each != first for each in outputs):
        raise QuantizeError(f"{node.name!r} gives one number for each batch")
    return _Value(first)


def run_node(
    model: onnx.ModelProto, node: onnx.NodeProto, given: Sequence[Mapping[str, NDArray[Any]]]
) -> list[Sequence[NDArray[Any]]]:
    """Run a node of a graph alone.

    Args:
        model: that the node is of.
        node: the node.
        given: its inputs by name, for each call.

    Returns:
        Its outputs, for each call.

    Raises:
        QuantizeError: ONNX Runtime cannot run it.
    """
    import onnxruntime
    from onnx import helper

    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
        )
        for name, value in given[0].items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output]
    alone = helper.make_model(
        helper.make_graph([node], "node", inputs, made),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and need not be printed
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            alone.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [session.run(None, dict(each)) for each in given]
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise QuantizeError(f"ONNX Runtime cannot run {node.name!r}: {reason}") from error
