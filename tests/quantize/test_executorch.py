"""ExecuTorch files; skipped without ``pip install -r requirements-executorch.txt``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.exporters.executorch import (
    LARGEST_BATCH,
    save_executorch,
    save_executorch_int8,
)
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import EXECUTORCH_METADATA

runtime = pytest.importorskip("executorch.runtime")

METADATA = {"architecture": "Ö", "input_size": "[8, 4]"}


class Twice(nn.Module):
    """One convolution called on two inputs of different range, as OSNet's gate is on four."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 4, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.pool(self.shared(x) + self.shared(9 * x)), 1)


@fx.wrap
def _chosen(x: Tensor) -> Tensor:
    return x if float(x.sum()) > 0 else -x


class Chooses(nn.Module):
    """What it does depends on its input, so that no one graph says it."""

    def forward(self, x: Tensor) -> Tensor:
        return _chosen(x)


@pytest.fixture(scope="module")
def model() -> Twice:
    torch.manual_seed(0)
    return Twice().eval()


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.randn(7, 3, 8, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def float_file(model: nn.Module, batch: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("executorch") / "float.pte"
    save_executorch(model, batch[:1], path, METADATA)
    return path


@pytest.fixture(scope="module")
def int8_file(model: nn.Module, batch: Tensor, float_file: Path) -> Path:
    path = float_file.with_name("int8.pte")
    save_executorch_int8(model, batch.split(4), path, METADATA)
    return path


def embed(path: Path, images: Tensor) -> Tensor:
    program = runtime.Runtime.get().load_program(path)
    found: Tensor = program.load_method("forward").execute([images.contiguous()])[0]
    return found


@pytest.mark.parametrize("size", [1, 2, 7])
@torch.inference_mode()
def test_embeddings_are_the_models(
    model: Twice, float_file: Path, int8_file: Path, batch: Tensor, size: int
) -> None:
    expected = model(batch[:size])
    assert torch.allclose(embed(float_file, batch[:size]), expected, atol=1e-5)
    rounded = embed(int8_file, batch[:size])
    assert not torch.allclose(rounded, expected, atol=1e-5)
    # What is pooled has a range of its own, far below that of the map.
    map_ = model.shared(batch) + model.shared(9 * batch)
    step = float(map_.max() - map_.min()) / 255
    assert torch.allclose(rounded, expected, atol=step / 2)


def test_metadata_is_a_method_of_the_file(float_file: Path, int8_file: Path) -> None:
    for path in (float_file, int8_file):
        program = runtime.Runtime.get().load_program(path)
        (text,) = program.load_method(EXECUTORCH_METADATA).execute([])
        assert json.loads(text) == METADATA


def test_layers_are_handed_to_xnnpack_and_memory_planned_for_the_largest_batch(
    float_file: Path, int8_file: Path
) -> None:
    for path in (float_file, int8_file):
        content = path.read_bytes()
        assert b"XnnpackBackend" in content
        assert b"aten::convolution" not in content
        assert b"quantized_decomposed::" not in content
        method = runtime.Runtime.get().load_program(path).load_method("forward")
        assert method.metadata.input_tensor_meta(0).sizes() == (LARGEST_BATCH, 3, 8, 4)


def test_why_a_layer_is_copied_for_every_call(
    model: nn.Module, batch: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest program that XNNPACK's delegate writes in int8 and cannot load."""

    def unsplit(whole: nn.Module) -> Any:
        return fx.symbolic_trace(whole)

    monkeypatch.setattr("quantize.call_sites.split_call_sites", unsplit)
    path = tmp_path / "shared.pte"
    save_executorch_int8(model, [batch], path, {})
    with pytest.raises(RuntimeError, match="Failed to load method forward"):
        embed(path, batch[:1])


def test_bad_input_is_refused(model: nn.Module, batch: Tensor, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="no calibration images"):
        save_executorch_int8(model, [], tmp_path / "int8.pte", {})
    with pytest.raises(QuantizeError, match="the model cannot be written for ExecuTorch: "):
        save_executorch(Chooses().eval(), batch, tmp_path / "float.pte", {})
    assert not list(tmp_path.iterdir())
