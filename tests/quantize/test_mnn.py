"""MNN files; skipped without the package MNN."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from quantize.exporters.mnn import save_mnn
from quantize.exporters.onnx_float import read_onnx_metadata, with_metadata
from reid_edge.core.backends import load_model_file, recognise
from reid_edge.core.errors import CheckpointError, QuantizeError
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT
from reid_edge.inference.embedder import load_embedder

pytest.importorskip("MNN")


@pytest.fixture(scope="module")
def mnn_file(osnet_onnx: Path) -> Path:
    path = osnet_onnx.with_name("float.mnn")
    save_mnn(osnet_onnx, path)
    return path


def test_embeddings_and_metadata(
    mnn_file: Path, osnet_onnx: Path, images: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert recognise(mnn_file).name == "mnn"
    capfd.readouterr()
    embedder = load_embedder(mnn_file)
    assert capfd.readouterr().out == ""
    assert embedder.description == "Ö, MNN"
    assert (embedder.space.input_size, embedder.space.mean) == ((64, 32), (0.5, 0.4, 0.3))
    for size in (1, 5, 2):
        found = embedder.embed(images[:size].numpy())
        expected = load_embedder(osnet_onnx).embed(images[:size].numpy())
        assert np.allclose(found, expected, atol=1e-5)


def test_int8_weights(mnn_file: Path, osnet_onnx: Path, images: Tensor, tmp_path: Path) -> None:
    save_mnn(osnet_onnx, tmp_path / "int8.mnn", weight_bits=8)
    assert (tmp_path / "int8.mnn").stat().st_size < 0.6 * mnn_file.stat().st_size
    found, exact = (
        load_embedder(path).embed(images.numpy()) for path in (tmp_path / "int8.mnn", mnn_file)
    )
    assert not np.allclose(found, exact, atol=1e-5)
    assert (found * exact).sum(1).min() > 0.99


def test_rounded_weights_have_no_threshold_of_the_float_file(
    osnet_onnx: Path, tmp_path: Path
) -> None:
    metadata = {**read_onnx_metadata(osnet_onnx), "threshold": "0.5"}
    noted = tmp_path / "noted.onnx"
    noted.write_bytes(with_metadata(osnet_onnx.read_bytes(), metadata))
    for bits, threshold, variant in ((None, 0.5, ""), (8, None, "weights")):
        save_mnn(noted, tmp_path / "made.mnn", weight_bits=bits)
        found = load_model_file(tmp_path / "made.mnn").metadata
        assert (found.threshold, found.variant) == (threshold, variant)


def test_a_network_that_holds_its_batch_takes_any_number_of_images(tmp_path: Path) -> None:
    shapes = {"mixed": [1, -1], "unmixed": [2, -1]}
    nodes = [
        helper.make_node("ReduceMean", [ONNX_INPUT], ["means"], axes=[3], keepdims=0),
        helper.make_node("Reshape", ["means", "mixed"], ["row"]),
        helper.make_node("Reshape", ["row", "unmixed"], [ONNX_OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "held",
        [helper.make_tensor_value_info(ONNX_INPUT, TensorProto.FLOAT, (2, 3, 16, 8))],
        [helper.make_tensor_value_info(ONNX_OUTPUT, TensorProto.FLOAT, (2, 48))],
        [numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, tmp_path / "held.onnx")
    save_mnn(tmp_path / "held.onnx", tmp_path / "held.mnn")
    images = np.random.default_rng(0).standard_normal((5, 3, 16, 8)).astype(np.float32)
    for size in (1, 2, 5):
        found = load_embedder(tmp_path / "held.mnn", input_size=(16, 8)).embed(images[:size])
        assert np.allclose(found, images[:size].mean(3).reshape(size, -1), atol=1e-6)


def test_the_same_file_gives_the_same_bytes(
    mnn_file: Path, osnet_onnx: Path, tmp_path: Path
) -> None:
    save_mnn(osnet_onnx, tmp_path / "again.mnn")
    assert (tmp_path / "again.mnn").read_bytes() == mnn_file.read_bytes()


def test_the_module_that_installs_packages_is_never_imported(mnn_file: Path) -> None:
    load_embedder(mnn_file)
    assert not [name for name in sys.modules if name.startswith(("MNN.tools", "aliyun"))]


def test_bad_input_is_refused(mnn_file: Path, tmp_path: Path) -> None:
    (tmp_path / "float.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(QuantizeError, match=r"float\.onnx: not an ONNX file"):
        save_mnn(tmp_path / "float.onnx", tmp_path / "float.mnn")
    for content in (b"", b"no model at all", mnn_file.read_bytes()[:1000]):
        (tmp_path / "float.mnn").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"float\.mnn: not a readable MNN file"):
            load_embedder(tmp_path / "float.mnn")
