"""The division by the length at the end of an ONNX graph, which many converters do not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantize.exporters.onnx_edits import rename_tensors

if TYPE_CHECKING:
    import onnx

# What the length of an embedding may be computed with.
_LENGTH_OPERATORS = {
    "Abs", "Add", "Cast", "Clip", "Constant", "Expand", "Identity", "Max", "Mul", "Pow",
    "ReduceL2", "ReduceSum", "ReduceSumSquare", "Shape", "Sqrt", "Unsqueeze",
}  # fmt: skip


def unit_length_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that divide a graph's first output by its length, the division first.

    Returns:
        No nodes if the graph does not end in such a division.
    """
    output = model.graph.output[0].name
    makers = {name: node for node in model.graph.node for name in node.output}
    last = makers.get(output)
    if last is None:
        return []
    if last.op_type == "LpNormalization":
        return [last]
    if last.op_type != "Div":
        return []
    vector, length = last.input
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes, waiting, found = [last], [length], False
    while waiting:
        name = waiting.pop()
        if name == vector:
            found = True
        elif name and name not in weights:
            node = makers.get(name)
            if node is None or node.op_type not in _LENGTH_OPERATORS:
                return []
            if node not in nodes:
                nodes.append(node)
                waiting.extend(node.input)
    return nodes if found else []


def cut_unit_length(model: onnx.ModelProto) -> bool:
    """Take the division by the length off the end of a graph, in place.

    Embeddings then have any length, and their directions stay. Compilers for integer arithmetic
    need that: a sum of squares hardly fits into 8 bits.

    Returns:
        Whether the graph ended in such a division.
    """
    nodes = unit_length_nodes(model)
    if not nodes:
        return False
    vector, output = nodes[0].input[0], model.graph.output[0].name
    for node in nodes:
        model.graph.node.remove(node)
    # The output keeps its name: the node in front of the division takes it.
    rename_tensors(model.graph, {vector: output})
    _drop_unused_weights(model)
    return True


def divide_by_length(model: onnx.ModelProto) -> None:
    """Add a division by the length to the end of a graph, in place.

    It consists of operators that every converter knows: product, sum, square root, quotient.
    """
    import onnx
    from onnx import TensorProto, helper

    output = model.graph.output[0].name
    undivided = f"{output}_undivided"
    rename_tensors(model.graph, {output: undivided})
    model.graph.output[0].name = output
    made = [f"{output}_{part}" for part in ("squares", "sum", "positive", "length")]
    axes, least = f"{output}_axes", f"{output}_least"
    model.graph.initializer.extend(
        [
            helper.make_tensor(axes, TensorProto.INT64, [1], [1]),
            # An embedding of zeros stays one of zeros.
            helper.make_tensor(least, TensorProto.FLOAT, [1], [1e-24]),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Mul", [undivided, undivided], made[:1], name=made[0]),
            helper.make_node("ReduceSum", [made[0], axes], made[1:2], name=made[1], keepdims=1),
            helper.make_node("Add", [made[1], least], made[2:3], name=made[2]),
            helper.make_node("Sqrt", made[2:3], made[3:], name=made[3]),
            helper.make_node("Div", [undivided, made[3]], [output], name=output),
        ]
    )
    onnx.checker.check_model(model)


def _drop_unused_weights(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
