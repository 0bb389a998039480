"""ONNX files: damaged bytes, and odd inputs, outputs and metadata."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

from reid_edge.inference.embedder import load_embedder
from tests.fuzz.target import Damage, Target, apply_damage, damaged

SHAPES = (["N", 3, 16, 8], [0, 3, 16, 8], [1, 3, 16, 8], [1, 16, 8, 3], [3], [], [-1, 3, -1, -1])
KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.STRING)
METADATA = ("", "Infinity", "null", "{", "[1, 2]", "64x32", "NaN", "-1", "\u0661", "BGR")
KEYS = ("input_size", "mean", "std", "colour_order", "architecture", "format_version")


@cache
def valid(shape: int, kind: int, inputs: int, output: int) -> onnx.ModelProto:
    """Return a model that flattens its input."""
    names = [f"input{number}" for number in range(inputs)]
    given = [helper.make_tensor_value_info(name, KINDS[kind], SHAPES[shape]) for name in names]
    nodes = [helper.make_node("Flatten", names[:1], ["output"])] if names else [
        helper.make_node("Constant", [], ["output"], value=helper.make_tensor(
            "value", TensorProto.FLOAT, [1, 2], np.ones(2, dtype=np.float32)))
    ]  # fmt: skip
    made = helper.make_tensor_value_info("output", KINDS[output], None)
    graph = helper.make_graph(nodes, "g", given, [made])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(
    value: tuple[tuple[int, int, int, int], dict[str, str], tuple[int, list[Damage]]], folder: Path
) -> None:
    """Load the file and embed an image."""
    model = onnx.ModelProto()
    model.CopyFrom(valid(*value[0]))
    for key, text in value[1].items():
        model.metadata_props.add(key=key, value=text)
    path = folder / "model.onnx"
    path.write_bytes(apply_damage(model.SerializeToString(), value[2][1]))
    embedder = load_embedder(path)
    embedder.embed(np.zeros((1, 3, *embedder.space.input_size), dtype=np.float32))


GRAPH = st.tuples(
    st.integers(0, len(SHAPES) - 1), st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)
)
TARGET = Target(
    "ONNX",
    st.tuples(
        GRAPH,
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(METADATA), max_size=2),
        damaged(2),
    ),
    run,
    known=[((shape, kind, inputs, 0), {}, (0, [])) for shape in range(len(SHAPES))
           for kind in range(4) for inputs in (0, 1)]
    + [((0, 0, 1, 3), {}, (0, []))]
    + [((0, 0, 1, 0), {key: "Infinity"}, (0, [])) for key in KEYS],
)  # fmt: skip
