"""ONNX files of other programs: what becomes of them, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from quantize.exporters.onnx_adopt import adopt_onnx
from quantize.exporters.onnx_edits import free_reshapes, network_inputs, opset_of
from quantize.exporters.onnx_float import onnx_session
from reid_edge.core.errors import QuantizeError

EXAMPLE = torch.zeros(1, 3, 16, 8)


class Foreign(nn.Module):
    """A network as others write it; its output may be of unit length, and its batch fixed.

    With ``mixed``, a tensor has the batch in another place than the first.
    """

    def __init__(
        self, *, unit: bool = False, batch: int | None = None, mixed: bool = False
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.unit, self.batch, self.mixed = unit, batch, mixed

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.body(x)
        flat = pooled.flatten(1) if self.batch is None else pooled.reshape(self.batch, -1)
        if self.mixed:
            assert self.batch is not None
            flat = flat.T.reshape(8, self.batch, 1).transpose(0, 1).flatten(1)
        return nn.functional.normalize(flat) if self.unit else flat


def write(
    path: Path, model: nn.Module, *, batch: int = 1, dynamic: bool = True, opset: int = 17,
    names: tuple[str, str] = ("images", "output"),
) -> Path:  # fmt: skip
    axes = {names[0]: {0: "n", 2: "h", 3: "w"}, names[1]: {0: "n"}} if dynamic else None
    torch.onnx.export(
        model.eval(), (EXAMPLE.repeat(batch, 1, 1, 1),), str(path), dynamo=False,
        opset_version=opset, input_names=[names[0]], output_names=[names[1]], dynamic_axes=axes,
    )  # fmt: skip
    return path


def embeddings(model: onnx.ModelProto, images: Tensor) -> Any:
    (found,) = onnx_session(model.SerializeToString()).run(
        ["reid_features"], {"input": images.numpy()}
    )
    return found


@pytest.mark.parametrize("names", [("images", "output"), ("x", "input"), ("reid_features", "y")])
@pytest.mark.parametrize("unit", [False, True])
def test_a_network_gets_our_names_and_embeddings_of_unit_length(
    tmp_path: Path, names: tuple[str, str], unit: bool
) -> None:
    model = Foreign(unit=unit)
    adopted = adopt_onnx(write(tmp_path / "a.onnx", model, names=names), EXAMPLE)
    images = torch.randn(3, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = nn.functional.normalize(model(images)).numpy()
    assert np.abs(embeddings(adopted, images) - expected).max() < 1e-6
    (given,) = network_inputs(adopted.graph)
    sides = [dim.dim_value or dim.dim_param for dim in given.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 16, 8]
    # One that gives unit length already is divided by no length again.
    lengths = [node.op_type for node in adopted.graph.node].count("ReduceL2")
    assert lengths == 1


def test_a_fixed_batch_becomes_dynamic_where_the_network_allows_it(tmp_path: Path) -> None:
    images = torch.randn(3, 3, 16, 8)
    free = adopt_onnx(write(tmp_path / "free.onnx", Foreign(), dynamic=False), EXAMPLE)
    assert embeddings(free, images).shape == (3, 8)
    bound = Foreign(batch=2, mixed=True)
    path = write(tmp_path / "bound.onnx", bound, batch=2, dynamic=False)
    adopted = adopt_onnx(path, EXAMPLE)
    (given,) = network_inputs(adopted.graph)
    assert given.type.tensor_type.shape.dim[0].dim_value == 2
    assert embeddings(adopted, images[:2]).shape == (2, 8)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_reshapes_alone_name_becomes_dynamic(
    tmp_path: Path, batch: int, capfd: pytest.CaptureFixture[str]
) -> None:
    model, images = Foreign(batch=batch), torch.randn(5, 3, 16, 8)
    path = write(tmp_path / "named.onnx", model, batch=batch, dynamic=False)
    # As PyTorch writes ``x.view(x.size(0), -1)``; without a change it takes no other batch.
    named = [node for node in onnx.load(path).graph.node if node.op_type == "Reshape"]
    assert named
    adopted = adopt_onnx(path, EXAMPLE)
    with torch.inference_mode():
        model.batch = None
        expected = nn.functional.normalize(model(images)).numpy()
    assert np.abs(embeddings(adopted, images) - expected).max() < 1e-6
    (given,) = network_inputs(adopted.graph)
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    # Nothing is left that no node reads, of which ONNX Runtime would warn.
    read = {name for each in adopted.graph.node for name in each.input}
    made = {name for each in adopted.graph.node for name in each.output} - {"reid_features"}
    assert made | {each.name for each in adopted.graph.initializer} <= read
    fixed = adopt_onnx(path, EXAMPLE, batch=3)
    assert embeddings(fixed, images[:3]).shape == (3, 8)
    # A network that turns out to hold its batch is not reported by ONNX Runtime itself.
    adopt_onnx(
        write(tmp_path / "bound.onnx", Foreign(batch=2, mixed=True), batch=2, dynamic=False),
        EXAMPLE,
    )
    assert capfd.readouterr() == ("", "")


def test_a_reshape_of_weights_or_to_another_first_side_stays(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones(3, np.float32), "w")
    shapes = {"of_weights": [1, 3, 1, 1], "of_images": [1, 3, 128], "flat": [3, 1, 128]}
    nodes = [
        helper.make_node("Reshape", ["w", "of_weights"], ["w4"]),
        helper.make_node("Mul", ["x", "w4"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "of_images"], ["rows"], name="first"),
        helper.make_node("Reshape", ["rows", "flat"], ["columns"], name="second"),
        helper.make_node("Reshape", ["columns", "of_images"], ["back"], name="third"),
        helper.make_node("ReduceMean", ["back"], ["y"], axes=[2], keepdims=0),
    ]
    constants = [numpy_helper.from_array(np.array(s), name) for name, s in shapes.items()]
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, 3, 16, 8)], [value("y", 1, 3)], [weights, *constants]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    free_reshapes(model)
    assert [node.input[1] for node in model.graph.node if node.op_type == "Reshape"] == [
        "of_weights", "rows_shape", "flat", "of_images",
    ]  # fmt: skip
    copied = next(each for each in model.graph.initializer if each.name == "rows_shape")
    assert numpy_helper.to_array(copied).tolist() == [0, 3, 128]
    # Another node still reads the former constant.
    assert "of_images" in {each.name for each in model.graph.initializer}


def test_an_old_file_gets_an_opset_that_int8_per_channel_needs(tmp_path: Path) -> None:
    adopted = adopt_onnx(write(tmp_path / "old.onnx", Foreign(), opset=11), EXAMPLE)
    assert opset_of(adopted) == 13
    assert adopted.ir_version <= 7


def test_weights_that_are_listed_as_inputs_are_none(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path / "a.onnx", Foreign()))
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    onnx.save(model, tmp_path / "listed.onnx")
    adopted = adopt_onnx(tmp_path / "listed.onnx", EXAMPLE)
    assert [value.name for value in adopted.graph.input] == ["input"]


def graph_file(path: Path, inputs: list[Any], outputs: list[Any], nodes: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def node(kind: str, *inputs: str, out: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), [out], **attributes)


HALF = TensorProto.FLOAT16
X, Y = value("x", "n", 3, 16, 8), value("y", "n", 3)
MEAN = node("ReduceMean", "x", axes=[2, 3], keepdims=0)


@pytest.mark.parametrize(
    ("inputs", "outputs", "nodes", "message"),
    [
        ([X, value("z", 1)], [Y], [MEAN], r"takes 2 inputs \(x, z\); expected images alone"),
        ([X], [Y, value("u", "n", 3)], [MEAN, node("Relu", "y", out="u")],
         r"gives 2 outputs \(y, u\); expected embeddings \(N, D\) alone"),
        ([value("x", "n", 3, 16, 8, kind=HALF)], [value("y", "n", 3, kind=HALF)], [MEAN],
         "its input is float16; expected float32 images"),
        ([value("x", "n", 3, 16, 8, kind=TensorProto.UINT8)], [Y],
         [node("Cast", "x", out="c", to=1), node("ReduceMean", "c", axes=[2, 3], keepdims=0)],
         "its input is uint8; expected float32 images"),
        ([value("x", "n", 16, 8, 3)], [Y], [node("ReduceMean", "x", axes=[1, 2], keepdims=0)],
         r"its input has shape \(n, 16, 8, 3\), expected \(N, 3, H, W\)"),
        ([value("x", "n", 384)], [value("y", "n", 384)], [node("Relu", "x")],
         r"its input has shape \(n, 384\), expected"),
        ([X], [value("y", "n", 3, 16, 8)], [node("Relu", "x")],
         r"gives \(2, 3, 16, 8\) for 2 images; expected an embedding \(N, D\)"),
    ],
)  # fmt: skip
def test_what_is_no_network_from_images_to_embeddings(
    tmp_path: Path, inputs: list[Any], outputs: list[Any], nodes: list[Any], message: str
) -> None:
    path = graph_file(tmp_path / "odd.onnx", inputs, outputs, nodes)
    with pytest.raises(QuantizeError, match=message):
        adopt_onnx(path, EXAMPLE)


def test_an_int8_file_and_one_without_its_weights_are_refused(tmp_path: Path) -> None:
    quantized = [
        helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.float32(0.1))),
        helper.make_node("Constant", [], ["z"], value=numpy_helper.from_array(np.uint8(3))),
        node("QuantizeLinear", "x", "s", "z", out="q"),
        node("DequantizeLinear", "q", "s", "z", out="d"),
        node("ReduceMean", "d", axes=[2, 3], keepdims=0),
    ]
    path = graph_file(tmp_path / "int8.onnx", [X], [Y], quantized)
    with pytest.raises(QuantizeError, match="is int8 already; give the float file"):
        adopt_onnx(path, EXAMPLE)
    whole = onnx.load(write(tmp_path / "a.onnx", Foreign()))
    onnx.save(
        whole, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    assert adopt_onnx(tmp_path / "apart.onnx", EXAMPLE).graph.node
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(
        QuantizeError, match=r"apart\.onnx: not a readable ONNX file \(.*weights\.bin"
    ):
        adopt_onnx(tmp_path / "apart.onnx", EXAMPLE)
