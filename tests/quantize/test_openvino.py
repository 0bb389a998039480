"""OpenVINO files; skipped without ``pip install -r requirements-openvino.txt``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.exporters.openvino import save_openvino
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT, OPENVINO_METADATA
from reid_edge.inference.embedder import load_embedder

openvino = pytest.importorskip("openvino")

METADATA = {"architecture": "Ö", "input_size": "[16, 8]"}


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.rand(4, 3, 16, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def onnx_file(batch: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    path = tmp_path_factory.mktemp("openvino") / "float.onnx"
    save_onnx(model.eval(), batch[:1], path, METADATA)
    return path


@pytest.fixture(scope="module")
def int8_file(onnx_file: Path, batch: Tensor) -> Path:
    path = onnx_file.with_name("int8.onnx")
    quantize_onnx(onnx_file, [batch], path)
    return path


def embed(path: Path, images: Tensor) -> np.ndarray:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found = openvino.Core().compile_model(path, "CPU", options)({ONNX_INPUT: images.numpy()})[
        ONNX_OUTPUT
    ]
    return np.array(found)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_embeddings_are_those_of_the_onnx_file(
    onnx_file: Path, batch: Tensor, tmp_path: Path, size: int
) -> None:
    save_openvino(onnx_file, tmp_path / "float.xml")
    (expected,) = onnx_session(onnx_file).run([ONNX_OUTPUT], {ONNX_INPUT: batch[:size].numpy()})
    assert np.allclose(embed(tmp_path / "float.xml", batch[:size]), expected, atol=1e-5)


def test_int8_stays_int8(onnx_file: Path, int8_file: Path, batch: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "int8.xml"
    save_openvino(int8_file, path)
    exact = embed_onnx(onnx_file, batch)
    assert not np.allclose(embed(path, batch), exact, atol=1e-5)
    assert np.allclose(embed(path, batch), embed_onnx(int8_file, batch), atol=0.03)
    model = openvino.Core().read_model(path)
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    sizes = {
        int(np.prod(node.get_output_shape(0)))
        for node in constants
        if node.get_output_element_type(0) == openvino.Type.i8
    }
    assert {8 * 3 * 9, 4 * 8} <= sizes  # the convolution's and the linear layer's weights


def embed_onnx(path: Path, images: Tensor) -> np.ndarray:
    return np.array(onnx_session(path).run([ONNX_OUTPUT], {ONNX_INPUT: images.numpy()})[0])


def test_metadata_is_the_onnx_files(onnx_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "float.xml"
    save_openvino(onnx_file, path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["float.bin", "float.xml"]
    model = openvino.Core().read_model(path)
    for key, value in METADATA.items():
        assert model.get_rt_info([OPENVINO_METADATA, key]).astype(str) == value
    assert json.loads(model.get_rt_info([OPENVINO_METADATA, "input_size"]).astype(str)) == [16, 8]


def test_the_same_file_gives_the_same_bytes(onnx_file: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_openvino(onnx_file, tmp_path / f"{name}.xml")
    for suffix in (".xml", ".bin"):
        first, second = (tmp_path / f"{name}{suffix}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"missing\.onnx: no such file"):
        save_openvino(tmp_path / "missing.onnx", tmp_path / "float.xml")
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_noted_and_asked_for(
    onnx_file: Path, batch: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, half in (("float", False), ("bf16", True)):
        save_openvino(onnx_file, tmp_path / f"{name}.xml", half=half)
    sizes = [(tmp_path / f"{name}.bin").stat().st_size for name in ("float", "bf16")]
    assert sizes[1] < 0.6 * sizes[0]
    asked = []
    compile_model = openvino.Core.compile_model

    def compile_and_note(
        core: object, model: object, device: str, settings: dict[str, str]
    ) -> object:
        asked.append(settings["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_and_note)
    exact, rounded = (
        load_embedder(tmp_path / f"{name}.xml").embed(batch.numpy()) for name in ("float", "bf16")
    )
    assert asked == ["f32", "bf16"]
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(1).min() > 0.999
