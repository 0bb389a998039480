"""ONNX files: with the real runtime where it is installed, with a stand-in otherwise."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from reid.data.records import ReidData
from reid.errors import CheckpointError, DataError, ModelError
from reid.inference import onnx_files
from reid.inference.embedder import embed_files
from reid.inference.model_files import load_embedder

METADATA = {"architecture": "brightness", "input_size": "[64, 32]"}


def fake_runtime(
    shape: list[object], metadata: dict[str, str], batches: list[int] | None = None
) -> SimpleNamespace:
    """A runtime whose every model takes the mean of each colour."""

    def run(_: None, feed: dict[str, Any]) -> list[Any]:
        pictures = feed["input"]
        if batches is not None:
            batches.append(len(pictures))
        if pictures.shape[-1] == 31:
            raise KeyError("first line\nsecond line")
        return [pictures.mean((2, 3))]

    session = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="input", shape=shape)],
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=metadata),
        run=run,
    )
    return SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=lambda *_, **__: session
    )


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x09stand-in")
    return path


def use(monkeypatch: pytest.MonkeyPatch, runtime: SimpleNamespace) -> None:
    monkeypatch.setattr(onnx_files, "import_optional", lambda *_: runtime)


def test_metadata_in_the_file(monkeypatch: pytest.MonkeyPatch, onnx_file: Path) -> None:
    use(monkeypatch, fake_runtime(["batch", 3, 64, 32], METADATA))
    embedder = load_embedder(onnx_file)
    assert (embedder.input_size, embedder.description) == ((64, 32), "brightness, ONNX")
    batch = torch.rand(3, 3, 64, 32)
    assert torch.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("name", ["model.json", "model.onnx.json"])
def test_metadata_beside_the_file(
    monkeypatch: pytest.MonkeyPatch, onnx_file: Path, name: str
) -> None:
    use(monkeypatch, fake_runtime(["batch", 3, "height", "width"], {}))
    assert load_embedder(onnx_file).input_size == (256, 128)
    beside = onnx_file.with_name(name)
    beside.write_text(json.dumps({"architecture": "x", "input_size": [96, 48]}))
    assert load_embedder(onnx_file).input_size == (96, 48)
    beside.write_text("[")
    with pytest.raises(CheckpointError, match="not a readable JSON object"):
        load_embedder(onnx_file)


def test_sizes_that_the_graph_fixes(monkeypatch: pytest.MonkeyPatch, onnx_file: Path) -> None:
    batches: list[int] = []
    use(monkeypatch, fake_runtime([2, 3, 64, 32], {}, batches))
    embedder = load_embedder(onnx_file)
    assert embedder.input_size == (64, 32)
    batch = torch.rand(5, 3, 64, 32)
    assert torch.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)
    assert batches == [2, 2, 2]


def test_bad_files(monkeypatch: pytest.MonkeyPatch, onnx_file: Path) -> None:
    use(monkeypatch, fake_runtime(["batch", 10], {}))
    with pytest.raises(CheckpointError, match=r"not \(N, 3, H, W\)"):
        load_embedder(onnx_file)
    use(monkeypatch, fake_runtime(["batch", 3, "h", "w"], {}))
    with pytest.raises(ModelError, match=r"the model fails on pictures of 64x31$"):
        load_embedder(onnx_file).embed(torch.rand(1, 3, 64, 31))


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch, onnx_file: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match=r"needs the package onnxruntime: pip install onnxruntime$"):
        load_embedder(onnx_file)


def test_real_runtime(tmp_path: Path, tiny_data: ReidData) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["output"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("input", kind, ["batch", 3, 64, 32])],
        [helper.make_tensor_value_info("output", kind, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, METADATA)
    path = tmp_path / "real.onnx"
    onnx.save(model, path)
    embedder = load_embedder(path)
    assert (embedder.input_size, embedder.description) == ((64, 32), "brightness, ONNX")
    embeddings = embed_files(embedder, [picture.path for picture in tiny_data.query])
    assert embeddings.shape == (len(tiny_data.query), 3)
    with pytest.raises(ModelError, match="fails on pictures of 32x32"):
        embedder.embed(torch.zeros(1, 3, 32, 32))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="not a readable ONNX file"):
        load_embedder(path)
    assert np.isfinite(embeddings.numpy()).all()
