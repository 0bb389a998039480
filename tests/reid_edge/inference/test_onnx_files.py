"""ONNX files: what is read off them, what is made of a fixed batch, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import embed_files, load_embedder

METADATA = {"architecture": "brightness", "input_size": "[64, 32]"}
FLOAT = onnx.TensorProto.FLOAT


def save_brightness(
    path: Path, shape: Sequence[int | str], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a model whose embedding of an image is the mean of each colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, list(shape))
    made = helper.make_tensor_value_info("output", FLOAT, [shape[0], 3])
    graph = helper.make_graph(nodes, "brightness", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 64, 32), dtype=np.float32)


def test_metadata_in_the_file(tmp_path: Path, tiny_data: ReidData) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32], METADATA)
    embedder = load_embedder(path)
    assert (embedder.space.input_size, embedder.description) == ((64, 32), "brightness, ONNX")
    batch = random_images(3)
    assert np.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)
    embeddings = embed_files(embedder, [image.path for image in tiny_data.query])
    assert embeddings.shape == (len(tiny_data.query), 3)


@pytest.mark.parametrize("name", ["model.json", "model.onnx.json"])
def test_metadata_beside_the_file(tmp_path: Path, name: str) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, "height", "width"])
    assert load_embedder(path).space.input_size == (256, 128)
    beside = path.with_name(name)
    beside.write_text(json.dumps({"architecture": "x", "input_size": [96, 48]}))
    assert load_embedder(path).space.input_size == (96, 48)
    beside.write_text("[")
    with pytest.raises(CheckpointError, match="not a readable JSON object"):
        load_embedder(path)


def test_sizes_that_the_graph_fixes(tmp_path: Path) -> None:
    embedder = load_embedder(save_brightness(tmp_path / "model.onnx", [2, 3, 64, 32]))
    assert embedder.space.input_size == (64, 32)
    batch = random_images(5)
    assert np.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)


def test_images_of_another_size(tmp_path: Path) -> None:
    embedder = load_embedder(save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32]))
    with pytest.raises(ModelError, match=r"model.onnx: .* images of 32x32; it may be made"):
        embedder.embed(np.zeros((1, 3, 32, 32), np.float32))


def test_a_model_that_does_not_take_images(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("input", FLOAT, ["batch", 10])
    made = helper.make_tensor_value_info("output", FLOAT, ["batch", 10])
    node = helper.make_node("Identity", ["input"], ["output"])
    graph = helper.make_graph([node], "identity", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"has shape \['batch', 10\], not \(N, 3, H, W\)"):
        load_embedder(tmp_path / "model.onnx")


def test_a_damaged_file(tmp_path: Path) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32], METADATA)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="not a readable ONNX file"):
        load_embedder(path)


def save_scaled(path: Path, scale: float) -> Path:
    """Write a model whose weights, one number for each colour, lie in a file beside it."""
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), scale, np.float32), "scale")
    nodes = [
        helper.make_node("Mul", ["input", "scale"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, ["batch", 3, 64, 32])
    made = helper.make_tensor_value_info("output", FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "scaled", [given], [made], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


def test_weights_beside_the_file_are_part_of_the_model(tmp_path: Path) -> None:
    one, same, other = (
        save_scaled(tmp_path / name / "model.onnx", scale)
        for name, scale in (("one", 1.0), ("same", 1.0), ("other", 2.0))
    )
    assert one.read_bytes() == other.read_bytes()
    space = load_embedder(one).space
    assert space.difference(load_embedder(same).space) is None
    assert space.difference(load_embedder(other).space) == "another model file"


def test_notes_beside_the_file_are_part_of_the_model(tmp_path: Path) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32])
    spaces = []
    for notes in (
        {},
        {"colour_order": "BGR"},
        {"mean": [0.5, 0.5, 0.5]},
        {"architecture": "brightness"},
    ):
        path.with_suffix(".json").write_text(json.dumps(notes))
        spaces.append(load_embedder(path).space)
    assert [spaces[0].difference(space) for space in spaces] == [
        None,
        "colours as BGR, not RGB",
        "other mean or std of the colours",
        "another architecture (brightness, not unnamed)",
    ]
