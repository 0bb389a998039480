from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from quantize.exporters.onnx_float import onnx_session, read_onnx
from quantize.exporters.onnx_tail import cut_unit_length, divide_by_length, unit_length_nodes
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT


def embed(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    found = onnx_session(model.SerializeToString()).run([ONNX_OUTPUT], {ONNX_INPUT: images})
    return np.array(found[0])


def graph(nodes: list[onnx.NodeProto], *weights: onnx.TensorProto) -> onnx.ModelProto:
    """Return a model that maps vectors (N, 3) with these nodes."""
    vector, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3])
        for name in (ONNX_INPUT, ONNX_OUTPUT)
    )
    first = helper.make_node("Relu", [ONNX_INPUT], ["vector"])
    made_graph = helper.make_graph([first, *nodes], "g", [vector], [made], list(weights))
    return helper.make_model(made_graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, given: str, made: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, given.split(), [made], **attributes)


TWO = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
LAST = helper.make_tensor("last", TensorProto.INT64, [1], [1])
DIVISIONS = {
    "as this project writes it": None,
    "a node of its own": [node("LpNormalization", "vector", ONNX_OUTPUT, axis=1, p=2)],
    "without a bound": [
        node("ReduceL2", "vector", "length", axes=[1]),
        node("Div", "vector length", ONNX_OUTPUT),
    ],
    "expanded, as F.normalize": [
        node("ReduceL2", "vector", "length", axes=[1]),
        node("Shape", "vector", "shape"),
        node("Expand", "length shape", "lengths"),
        node("Div", "vector lengths", ONNX_OUTPUT),
    ],
    "with powers": [
        node("Pow", "vector two", "squares"),
        node("ReduceSum", "squares last", "sum"),
        node("Sqrt", "sum", "length"),
        node("Div", "vector length", ONNX_OUTPUT),
    ],
}


@pytest.mark.parametrize("form", DIVISIONS)
def test_a_division_by_the_length_is_found_cut_and_written_out(
    form: str, osnet_onnx: Path, images: Tensor
) -> None:
    nodes = DIVISIONS[form]
    model = read_onnx(osnet_onnx) if nodes is None else graph(nodes, TWO, LAST)
    given = np.abs(images.numpy()) if nodes is None else np.arange(1, 7, dtype=np.float32)
    given = given if nodes is None else given.reshape(2, 3)
    expected = embed(model, given)
    assert np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    count = len(unit_length_nodes(model))
    before = len(model.graph.node)
    assert cut_unit_length(model)
    assert len(model.graph.node) == before - count
    onnx.checker.check_model(model)
    cut = embed(model, given)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    assert not np.allclose(lengths, 1, atol=0.1)
    assert np.allclose(cut / lengths, expected, atol=1e-5)
    assert not cut_unit_length(model)
    divide_by_length(model)
    assert np.allclose(embed(model, given), expected, atol=1e-5)


def test_what_is_no_division_by_the_own_length_stays() -> None:
    for nodes in (
        [node("Div", "vector two", ONNX_OUTPUT)],
        [node("Neg", "vector", "other"), node("ReduceL2", "other", "length", axes=[1]),
         node("Div", "vector length", ONNX_OUTPUT)],
        [node("Sigmoid", "vector", ONNX_OUTPUT)],
    ):  # fmt: skip
        model = graph(nodes, TWO)
        content = model.SerializeToString()
        assert unit_length_nodes(model) == []
        assert not cut_unit_length(model)
        assert model.SerializeToString() == content


def test_an_embedding_of_zeros_stays_one() -> None:
    model = graph([node("Identity", "vector", ONNX_OUTPUT)])
    divide_by_length(model)
    assert np.array_equal(embed(model, np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
