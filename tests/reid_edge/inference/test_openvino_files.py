"""OpenVINO files; skipped without ``pip install -r requirements-openvino.txt``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_edge.core.backends import model_file_parts, recognise
from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_file
from reid_edge.core.model_file import OPENVINO_METADATA, OPENVINO_WEIGHTS_HASH
from reid_edge.inference.embedder import load_embedder


@pytest.fixture
def openvino() -> Any:
    return pytest.importorskip("openvino")


@pytest.fixture
def graph(openvino: Any, tmp_path: Path) -> Path:
    """A model that doubles the mean of each colour, as OpenVINO itself writes it."""
    operations = openvino.opset13
    images = operations.parameter([-1, 3, 64, 32], name="input")
    scale = operations.constant([[2.0, 2.0, 2.0]], dtype="float32")
    mean = operations.reduce_mean(images, [2, 3])
    model = openvino.Model([operations.multiply(mean, scale)], [images], "doubled")
    path = tmp_path / "model.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    note = {"architecture": "doubled", "colour_order": "BGR", "mean": "[0.5, 0.5, 0.5]"}
    for key, value in {**note, OPENVINO_WEIGHTS_HASH: hash_file(path.with_suffix(".bin"))}.items():
        model.set_rt_info(value, [OPENVINO_METADATA, key])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def test_embeddings_and_metadata(graph: Path) -> None:
    embedder = load_embedder(graph)
    assert embedder.description == "doubled, OpenVINO"
    assert (embedder.space.input_size, embedder.space.colour_order) == ((64, 32), "BGR")
    assert embedder.space.mean == (0.5, 0.5, 0.5)
    for size in (1, 2, 7):
        batch = torch.rand(size, 3, 64, 32)
        assert np.allclose(embedder.embed(batch.numpy()), 2 * batch.mean((2, 3)), atol=1e-5)


def test_a_file_without_notes_has_the_defaults(openvino: Any, graph: Path) -> None:
    model = openvino.Core().read_model(graph)
    del model.rt_info[OPENVINO_METADATA]
    plain = graph.with_name("plain.xml")
    openvino.save_model(model, plain)
    assert load_embedder(plain).space.colour_order == "RGB"
    assert load_embedder(plain).space.input_size == (64, 32)


def test_images_that_do_not_fit(graph: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.xml: the model fails on images of 64x32"):
        load_embedder(graph).embed(torch.rand(1, 4, 64, 32).numpy())


def test_weights_of_another_model(graph: Path) -> None:
    weights = graph.with_suffix(".bin")
    assert model_file_parts(graph) == [graph, weights]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.bin: not the weights of model\.xml; copy"):
        load_embedder(graph)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.bin: no such file; .* copy both"):
        load_embedder(graph)


def test_weights_are_part_of_the_model(openvino: Any, graph: Path) -> None:
    model = openvino.Core().read_model(graph)
    del model.rt_info[OPENVINO_METADATA]
    plain = graph.with_name("plain.xml")
    openvino.save_model(model, plain, compress_to_fp16=False)
    space = load_embedder(plain).space
    weights = plain.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_embedder(plain).space.difference(space) == "another model file"


def test_a_graph_cut_short(graph: Path) -> None:
    graph.write_text(graph.read_text()[:600])
    with pytest.raises(CheckpointError, match=r"model\.xml: not a readable OpenVINO file"):
        load_embedder(graph)


def test_another_programs_xml_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "notes.xml"
    path.write_text('<?xml version="1.0"?>\n<notes/>')
    with pytest.raises(CheckpointError, match=r"notes\.xml: not a model file that is known"):
        recognise(path)
