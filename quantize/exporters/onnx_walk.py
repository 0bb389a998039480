"""Run an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        inputs: by name.
        output: its first output. What is written into it is what the nodes behind it read.
    """

    node: onnx.NodeProto
    inputs: dict[str, NDArray[Any]]
    output: NDArray[Any]


def walk_nodes(model: onnx.ModelProto, images: NDArray[Any]) -> Iterator[Step]:
    """Run a graph node by node; a value is dropped after its last use.

    Args:
        model: a network with one input; its order is one of execution.
        images: (N, 3, H, W).

    Raises:
        QuantizeError: ONNX Runtime cannot run a node.
    """
    from onnx import numpy_helper

    graph = model.graph
    (input_,) = network_inputs(graph)
    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
    }
    values[input_.name] = images
    last = {name: place for place, node in enumerate(graph.node) for name in node.input}
    for place, node in enumerate(graph.node):
        inputs = {name: values[name] for name in node.input if name}
        found = run_node(model, node, inputs)
        values |= zip(node.output, found, strict=True)
        yield Step(node, inputs, found[0])
        for name in inputs:
            if last[name] == place:
                del values[name]


def run_node(
    model: onnx.ModelProto, node: onnx.NodeProto, inputs: dict[str, NDArray[Any]]
) -> Sequence[NDArray[Any]]:
    """Run a node of a graph alone; return its outputs.

    Raises:
        QuantizeError: ONNX Runtime cannot run it.
    """
    import onnxruntime
    from onnx import helper

    given = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
        )
        for name, value in inputs.items()
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output]
    alone = helper.make_model(
        helper.make_graph([node], "node", given, made),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            alone.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found: list[NDArray[Any]] = session.run(None, inputs)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise QuantizeError(f"ONNX Runtime cannot run {node.name!r}: {reason}") from error
    return found
