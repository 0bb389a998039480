"""Changes of an ONNX graph that leave its embeddings as they are: batch, names, unit length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reid_edge.core.exporter import Projection
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT

if TYPE_CHECKING:
    import onnx

# Lengths of embeddings are no smaller than this one, by which they are divided.
SHORTEST = 1e-12
# Tensors that an adopted network gets; its own ones of these names are renamed.
RESERVED = (
    ONNX_INPUT, ONNX_OUTPUT, "embedding", "length", "safe_length", "shortest_length",
    "embedding_axis", "projection", "projection_bias", "projected", "whole_embedding",
    "whole_length", "whole_safe_length", "whole_shortest_length", "whole_embedding_axis",
)  # fmt: skip
# By operator set: the version of the format that came with it (ONNX's page on versioning). Runtimes
# refuse a newer one, even if nothing in the file needs it.
_IR_VERSIONS = {range(15): 7, range(15, 19): 8, range(19, 21): 9, range(21, 23): 10}


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for each in (*inner, *attribute.graphs):
                yield from graphs_of(each)


def network_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs of a graph; old files list their weights among them, which are left out."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators in a file."""
    return int(next(each.version for each in model.opset_import if not _domain(each)))


def keep_used_opsets(model: onnx.ModelProto) -> None:
    """Name the operator sets that nodes are of, and the oldest format version that has them.

    ONNX Runtime refuses a file with an operator set or a format version that is newer than it,
    though no node needs it. In place.
    """
    used = {_domain(node) for graph in (model.graph, *model.functions) for node in _nodes(graph)}
    kept = [each for each in model.opset_import if _domain(each) in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    version = opset_of(model)
    oldest = next((ir for opsets, ir in _IR_VERSIONS.items() if version in opsets), None)
    if oldest is not None and not model.functions:
        model.ir_version = min(model.ir_version, oldest)


def _domain(named: Any) -> str:
    return "" if named.domain == "ai.onnx" else str(named.domain)


def _nodes(graph: Any) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for each in (*inner, *attribute.graphs):
                yield from _nodes(each)


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors in a graph and in those inside it, in place."""
    for each in graphs_of(graph):
        for node in each.node:
            for field in (node.input, node.output):
                renamed = [names.get(name, name) for name in field]
                del field[:]
                field.extend(renamed)
        for value in (*each.input, *each.output, *each.value_info, *each.initializer):
            value.name = names.get(value.name, value.name)


def set_batch(model: onnx.ModelProto, batch: int | None) -> None:
    """Fix the batch of a network of this program's, or make it any number, in place.

    Args:
        model: with one input and one output, both with the batch as first dimension.
        batch: images in a call; None: any number.
    """
    for value in (*network_inputs(model.graph), *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if batch is None:
            first.dim_param = "batch"
        else:
            first.dim_value = batch
    # Shapes in between are of the former batch; runtimes find them again.
    del model.graph.value_info[:]


def free_reshapes(model: onnx.ModelProto) -> None:
    """Let each Reshape that names the network's fixed batch copy that of its input, in place.

    PyTorch's exporter writes ``x.view(x.size(0), -1)`` as a Reshape to (1, -1) where the batch is
    fixed, so that the network holds the batch though no layer mixes its images. For the fixed batch
    the network is the same.

    Args:
        model: a network with one input, which has a fixed batch.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = onnx.shape_inference.infer_shapes(model).graph
    (images,) = network_inputs(graph)
    batch = images.type.tensor_type.shape.dim[0].dim_value
    of_batch = {
        value.name
        for value in (*graph.value_info, images)
        if [dim.dim_value for dim in value.type.tensor_type.shape.dim][:1] == [batch]
    }
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    found = []
    for node in model.graph.node:
        means_zero = any(entry.name == "allowzero" and entry.i for entry in node.attribute)
        if node.op_type != "Reshape" or means_zero or node.input[0] not in of_batch:
            continue
        target = constants.get(node.input[1])
        shape = [] if target is None else numpy_helper.to_array(target).tolist()
        if shape[:1] == [batch]:
            found.append((node, [0, *shape[1:]]))
    for node, shape in found:
        # A constant of its own: other nodes may read the former one.
        name, former = f"{node.output[0]}_shape", node.input[1]
        free_names(model.graph, [name])
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        node.input[1] = name
        _drop_unused(model.graph, former)


def _drop_unused(graph: onnx.GraphProto, constant: str) -> None:
    """Remove a constant that no node reads; ONNX Runtime would warn of it. In place."""
    read = {name for each in graphs_of(graph) for node in each.node for name in node.input}
    if constant in read or constant in {value.name for value in graph.output}:
        return
    for stored in [each for each in graph.initializer if each.name == constant]:
        graph.initializer.remove(stored)
    for node in [each for each in graph.node if constant in each.output]:
        graph.node.remove(node)


def add_projection(model: onnx.ModelProto, embedding: str, projection: Projection) -> None:
    """Project the embeddings, and bring them to unit length as ``reid_features``, in place.

    Args:
        model: see ``add_unit_length``.
        embedding: name of the tensor (N, D) with the embeddings, of any length.
        projection: of embeddings of unit length.
    """
    from onnx import helper, numpy_helper

    graph, names = model.graph, ["projection"]
    graph.initializer.append(numpy_helper.from_array(projection.weight, "projection"))
    if projection.bias is not None:
        graph.initializer.append(numpy_helper.from_array(projection.bias, "projection_bias"))
        names.append("projection_bias")
        add_unit_length(model, embedding, output="whole_embedding", prefix="whole_")
        embedding = "whole_embedding"
    graph.node.append(helper.make_node("Gemm", [embedding, *names], ["projected"], transB=1))
    add_unit_length(model, "projected")


def add_unit_length(
    model: onnx.ModelProto, embedding: str, *, output: str = ONNX_OUTPUT, prefix: str = ""
) -> None:
    """Divide the embeddings by their lengths, in place.

    Args:
        model: its own output becomes a tensor inside of the graph.
        embedding: name of the tensor (N, D) with the embeddings.
        output: name of the result.
        prefix: of the names of other new tensors.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    length, safe, shortest, axis = (
        prefix + name for name in ("length", "safe_length", "shortest_length", "embedding_axis")
    )
    graph.initializer.append(numpy_helper.from_array(np.array(SHORTEST, np.float32), shortest))
    if opset_of(model) < 18:
        norm = helper.make_node("ReduceL2", [embedding], [length], axes=[1], keepdims=1)
    else:
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axis))
        norm = helper.make_node("ReduceL2", [embedding, axis], [length], keepdims=1)
    graph.node.extend(
        [
            norm,
            helper.make_node("Clip", [length, shortest], [safe]),
            helper.make_node("Div", [embedding, safe], [output]),
        ]
    )


def free_names(graph: onnx.GraphProto, wanted: Iterable[str]) -> None:
    """Rename tensors that have a name which is wanted for another one, in place."""
    taken = {
        name
        for each in graphs_of(graph)
        for node in each.node
        for name in (*node.input, *node.output)
    }
    names = {}
    for name in wanted:
        if name in taken:
            new = next(
                f"{name}_{n}" for n in range(1, len(taken) + 2) if f"{name}_{n}" not in taken
            )
            names[name] = new
            taken.add(new)
    if names:
        rename_tensors(graph, names)
