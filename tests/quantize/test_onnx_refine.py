"""Weights of an int8 ONNX file rounded by their inputs, and biases corrected."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.exporters.onnx_adopt import takes_any_batch
from quantize.exporters.onnx_edits import set_batch
from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.exporters.onnx_refine import name_layers, rounded_weights
from quantize.exporters.onnx_walk import Step, walk_nodes
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def files(
    osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A float file, and int8 files of it that are refined and not."""
    folder = tmp_path_factory.mktemp("refined")
    found = {name: folder / f"{name}.onnx" for name in ("float", "plain", "refined")}
    save_onnx(osnet, images[:1], found["float"], {})
    for name in ("plain", "refined"):
        refined = name == "refined"
        quantize_onnx(found["float"], [images], found[name], method="minmax", refined=refined)
    return found


def cosine_error(path: Path, osnet: nn.Module) -> float:
    """Return the mean cosine error of a file on images that it was not calibrated on."""
    images = torch.randn(16, 3, 64, 32, generator=torch.Generator().manual_seed(5))
    (found,) = onnx_session(path).run(None, {ONNX_INPUT: images.numpy()})
    with torch.no_grad():
        return float(1 - F.cosine_similarity(torch.from_numpy(found), osnet(images)).mean())


def test_a_refined_file_is_nearer_to_the_model(files: dict[str, Path], osnet: nn.Module) -> None:
    assert cosine_error(files["refined"], osnet) < 0.8 * cosine_error(files["plain"], osnet)
    plain, refined = (onnx.load(files[name]).graph for name in ("plain", "refined"))
    assert [node.op_type for node in plain.node] == [node.op_type for node in refined.node]


@pytest.mark.slow
def test_a_refined_file_for_tensorrt_is_nearer_to_the_model(
    files: dict[str, Path], osnet: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    errors = []
    for refined in (False, True):
        path = tmp_path / f"{refined}.onnx"
        quantize_onnx(files["float"], [images], path, refined=refined, symmetric=True)
        errors.append(cosine_error(path, osnet))
    assert errors[1] < 0.8 * errors[0], errors


def channel_errors(path: Path, files: dict[str, Path], images: Tensor) -> float:
    """Return the mean error of the means of all channels in front of biases."""
    outputs = [
        {
            step.node.name: step.output.mean((0, 2, 3))
            for step in walk_nodes(onnx.load(each), images.numpy())
            if step.node.op_type == "Conv" and len(step.node.input) > 2
        }
        for each in (files["float"], path)
    ]
    return float(np.mean([np.abs(outputs[0][n] - outputs[1][n]).mean() for n in outputs[0]]))


def test_the_mean_of_each_channel_is_that_of_the_model(
    files: dict[str, Path], images: Tensor
) -> None:
    plain, refined = (channel_errors(files[n], files, images) for n in ("plain", "refined"))
    assert refined < 0.05 * plain


def test_a_network_that_holds_its_batch_is_fitted_on_several_batches(
    files: dict[str, Path], images: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise weights and biases would be those of the images of one call."""
    held = onnx.load(files["float"])
    set_batch(held, 2)
    # Mixes the images of a batch: it takes no other batch.
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "mixed_shape")
    back = numpy_helper.from_array(np.array([2, -1], np.int64), "back_shape")
    held.graph.initializer.extend([shape, back])
    last = held.graph.node[-1]
    (name,) = last.output
    last.output[0] = "unmixed"
    held.graph.node.extend(
        [
            helper.make_node("Reshape", ["unmixed", "mixed_shape"], ["mixed"], name="mix"),
            helper.make_node("Reshape", ["mixed", "back_shape"], [name], name="unmix"),
        ]
    )
    path, int8 = tmp_path / "held.onnx", tmp_path / "int8.onnx"
    onnx.save(held, path)
    assert not takes_any_batch(held, 2)
    caplog.set_level("INFO")
    quantize_onnx(path, [images], int8, method="minmax", batch=2)
    assert f"fitting weights and biases on {len(images)} images" in caplog.text
    # The same images at once give the same weights and biases.
    weights = [
        {each.name: numpy_helper.to_array(each) for each in onnx.load(one).graph.initializer}
        for one in (files["refined"], int8)
    ]
    assert weights[0].keys() <= weights[1].keys()
    assert all(np.array_equal(found, weights[1][name]) for name, found in weights[0].items())


def test_rounding_takes_back_errors_of_inputs_that_are_alike() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal((500, 2))
    inputs = np.repeat(base, 4, axis=1) + 0.05 * generator.standard_normal((500, 8))
    weights = generator.standard_normal((5, 8)).astype(np.float32)
    scale = (np.abs(weights).max(1) / 7).astype(np.float32)  # few steps
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    step = Step(node, {"x": inputs.astype(np.float32)}, np.zeros((500, 5), np.float32))
    rounded = rounded_weights(step, weights, scale, largest=7)
    assert rounded is not None
    assert np.abs(rounded).max() <= 7
    nearest = np.round(weights / scale[:, None])

    def error(found: np.ndarray) -> float:
        return float((((found * scale[:, None] - weights) @ inputs.T) ** 2).mean())

    assert error(rounded) < 0.3 * error(nearest)


def test_layers_without_names_get_their_own() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=""),
        helper.make_node("Conv", ["a", "w"], ["b"], name="twice"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="twice"),
        helper.make_node("Relu", ["c"], ["d"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    name_layers(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names[:3])) == 3
    assert all(names[:3])


def test_a_node_that_cannot_run_alone_leaves_the_nearest_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "one": np.ones((), np.float32),
    }
    vector = helper.make_tensor_value_info("chosen", onnx.TensorProto.FLOAT, None)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["convolved"], ["chosen"])], name, [], [vector]
        )
        for name, operator in (("then", "Relu"), ("else", "Identity"))
    }
    nodes = [
        helper.make_node("Conv", [ONNX_INPUT, "w"], ["convolved"], "conv"),
        helper.make_node("ReduceMax", [ONNX_INPUT], ["most"], "most", keepdims=0),
        helper.make_node("Less", ["most", "one"], ["is_dark"], "less"),
        helper.make_node("If", ["is_dark"], ["branch"], "if", **branches),
        helper.make_node("GlobalAveragePool", ["branch"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], [ONNX_OUTPUT], "flat"),
    ]
    shapes = ((ONNX_INPUT, ["batch", 3, 8, 8]), (ONNX_OUTPUT, ["batch", 4]))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, tmp_path / "float.onnx")
    quantize_onnx(
        tmp_path / "float.onnx", [torch.randn(4, 3, 8, 8)], tmp_path / "int8.onnx", method="minmax"
    )
    assert "int8.onnx: weights are rounded to the nearest: ONNX Runtime cannot run 'if'" in (
        caplog.text
    )
    assert onnx_session(tmp_path / "int8.onnx").get_outputs()[0].name == ONNX_OUTPUT
