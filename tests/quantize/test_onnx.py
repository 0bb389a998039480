import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantize.exporters.onnx_float import onnx_session, read_onnx, read_onnx_metadata, save_onnx
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT


@pytest.fixture(scope="module")
def float_file(osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    save_onnx(osnet, images[:1], path, {"architecture": "Ö", "input_size": "[64, 32]"})
    return path


def test_embeddings_are_the_models_at_unit_length_for_every_batch_size(
    osnet: nn.Module, float_file: Path, images: Tensor
) -> None:
    session = onnx_session(float_file)
    assert [entry.name for entry in session.get_inputs()] == [ONNX_INPUT]
    assert [entry.name for entry in session.get_outputs()] == [ONNX_OUTPUT]
    with torch.inference_mode():
        expected = F.normalize(osnet(images))
    for size in (1, 2, 7):
        (found,) = session.run(None, {ONNX_INPUT: images[:size].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected[:size], rtol=0, atol=1e-5)


def test_the_graph_is_compact(osnet: nn.Module, float_file: Path) -> None:
    model = read_onnx(float_file)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Conv"] == 97  # 79 layers; 6 of them, in three gates, are called four times
    assert kinds["GlobalAveragePool"] == 13
    assert not {"BatchNormalization", "Shape", "ReduceMean"} & set(kinds)
    # The weights of a gate that is called four times are there once.
    weights = sum(parameter.numel() for parameter in osnet.parameters())
    stored = sum(onnx.numpy_helper.to_array(each).size for each in model.graph.initializer)
    assert stored < weights


def test_metadata(float_file: Path) -> None:
    assert read_onnx_metadata(float_file) == {"architecture": "Ö", "input_size": "[64, 32]"}
    assert onnx_session(float_file).get_modelmeta().custom_metadata_map["architecture"] == "Ö"


def test_the_same_model_gives_the_same_bytes(
    osnet: nn.Module, float_file: Path, images: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "again.onnx"
    save_onnx(osnet, images[:1], path, {"architecture": "Ö", "input_size": "[64, 32]"})
    assert path.read_bytes() == float_file.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@torch.inference_mode()
def test_boxmot_runs_it(
    osnet: nn.Module,
    float_file: Path,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = pytest.importorskip("boxmot.reid.backends.onnx_backend", exc_type=ImportError)
    # It would install a version of its own over the one that these tests run on.
    monkeypatch.setattr(backend.ONNXBackend, "_ensure_onnxruntime_installed", lambda _: None)
    path = tmp_path / "osnet_x0_25_own.onnx"
    shutil.copy(float_file, path)
    theirs = backend.ONNXBackend(path, torch.device("cpu"), half=False)
    assert (theirs.model_name, theirs.input_shape) == ("osnet_x0_25", (64, 32))
    found = torch.from_numpy(theirs.forward(images))
    torch.testing.assert_close(found, F.normalize(osnet(images)), rtol=0, atol=1e-5)
    frame = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 40, 90], [60, 5, 119, 99]])
    assert theirs.get_features(boxes, frame).shape == (2, found.shape[1])


@fx.wrap
def _scaled_by_batch(x: Tensor) -> Tensor:
    """FX keeps the call as it is; the exporter's trace makes the size of the example a constant."""
    first, second = x.flatten(1).split([1, x[0].numel() - 1], dim=1)
    return torch.cat([first * float(int(x.shape[0])), second], dim=1)


class DependsOnBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _scaled_by_batch(x)


def test_a_file_that_differs_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("the former file")
    with pytest.raises(QuantizeError, match=r"differ by .* on a batch of another size"):
        save_onnx(DependsOnBatch(), torch.rand(2, 3, 4, 4), path, {})
    assert path.read_text() == "the former file"


class Cancelling(nn.Module):
    """Its head takes away what an image of zeros gives, so that rounding errors stand out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool = nn.Conv2d(3, 16, 3, padding=1), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 8)
        self.head.weight.data *= 30

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x).relu()).flatten(1))  # type: ignore[no-any-return]


@torch.no_grad()
def test_the_rounding_of_a_mean_of_equal_numbers_is_no_difference(tmp_path: Path) -> None:
    """ONNX Runtime's error on an image of one colour is 5e-4 here, and 2e-6 on random images."""
    model, zeros = Cancelling().eval(), torch.zeros(1, 3, 256, 128)
    model.head.bias += 0.3 - model(zeros)[0]
    path = tmp_path / "model.onnx"
    save_onnx(model, zeros, path, {})
    images = torch.rand(2, 3, 256, 128)
    (found,) = onnx_session(path).run(None, {ONNX_INPUT: images.numpy()})
    expected = F.normalize(model(images))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)


@fx.wrap
def _marked_where_zero(x: Tensor) -> Tensor:
    return x.flatten(1) + float(x[0, 0, 0, 0] == 0)


class MarksZeros(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _marked_where_zero(x)


def test_a_file_that_is_right_on_zeros_alone_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"differ by .* on random images, more than 1e-04"):
        save_onnx(MarksZeros(), torch.zeros(1, 3, 4, 4), tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_read_are_named(float_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(float_file.read_bytes()[:-1000])
    with pytest.raises(QuantizeError, match=r"cut\.onnx: not an ONNX file, or cut short"):
        read_onnx_metadata(cut)
    with pytest.raises(QuantizeError, match=r"missing\.onnx: no such file"):
        read_onnx_metadata(tmp_path / "missing.onnx")
    with pytest.raises(QuantizeError, match="ONNX Runtime cannot run the model: ") as refused:
        onnx_session(cut)
    assert "\n" not in str(refused.value)
