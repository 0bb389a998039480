"""Stage ``quantize`` with quantization-aware training: two files, one choice, any stop."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.stage_results import QuantizeResult
from pipeline.stages import quantize
from reid_edge.core.errors import PipelineError
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.data.schema import ReidData
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.training.module import ReidModule

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()

QAT = {"epochs": 2, "identities_per_batch": 4, "images_per_identity": 3, "warmup_epochs": 0}
SIZE = 64, 32


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def checkpoint(short_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=8, embedding_dim=16).train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(8, 3, *SIZE))
    path = tmp_path_factory.mktemp("model") / "checkpoint.pt"
    save_checkpoint(path, model, describe(model.eval(), "small_net", input_size=SIZE))
    return path


def run(data: ReidData, checkpoint: Path, folder: Path, **settings: Any) -> QuantizeResult:
    section = {
        "mode": "qat", "calibration_images": 12, "held_back_images": 12,
        "observer": "minmax", "qat": QAT,
    }  # fmt: skip
    config = Config.model_validate(
        {
            "device": "cpu",
            "data": {"workers": 0, "height": SIZE[0], "width": SIZE[1]},
            "quantize": section | settings,
        }
    )
    folder.mkdir(exist_ok=True)
    return quantize.run(
        StageContext(
            stage="quantize", config=config, settings=config.quantize, folder=folder,
            data=data, parent=checkpoint, teacher=None, parent_hash="", input_size=SIZE,
        )
    )  # fmt: skip


def without_size(result: QuantizeResult) -> QuantizeResult:
    """A TorchScript file holds class names that count up within a process: its size varies."""
    assert result.model is not None
    return result.model_copy(update={"model": result.model.model_copy(update={"bytes": 0})})


def embeddings(path: Path) -> Tensor:
    model, _ = load_torchscript(path)
    images = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    with quantized_engine("qnnpack"), torch.inference_mode():
        return model(images)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def finished(
    short_networks: None,
    tiny_data: ReidData,
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, QuantizeResult]:
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(tiny_data, checkpoint, folder)


def test_both_variants_are_measured_and_the_nearer_one_is_kept(
    finished: tuple[Path, QuantizeResult],
) -> None:
    folder, row = finished
    report = json.loads((folder / "quantization.json").read_text())
    variants = report["variants"]
    errors = {variant: variants[variant]["agreement"]["mean_cosine_error"] for variant in variants}
    assert set(variants) == {"static", "qat"}
    assert report["kept"] == min(errors, key=errors.__getitem__)
    kept = folder / variants[report["kept"]]["file"]
    assert (folder / "int8.pt").read_bytes() == kept.read_bytes()
    assert load_torchscript(folder / "int8.pt")[1].variant == report["kept"]
    assert not torch.equal(*(embeddings(folder / f"int8_{variant}.pt") for variant in variants))
    by_epoch = report["training"]["mean_cosine_error_by_epoch"]
    assert len(by_epoch) == 2
    assert min(by_epoch) == by_epoch[report["training"]["best_epoch"] - 1]
    # What was judged after the epoch is what was written, read back and judged again.
    assert errors["qat"] == pytest.approx(min(by_epoch), abs=1e-9)
    assert row.quantization.decision == report["decision"]
    assert "12 training images held back" in report["decision"]


def test_an_interrupted_training_resumes_to_the_same_bits(
    tiny_data: ReidData,
    checkpoint: Path,
    finished: tuple[Path, QuantizeResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, original = 0, ReidModule.training_step

    def interrupted(self: ReidModule, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:  # in the middle of the second epoch
            raise InterruptionError
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(ReidModule, "training_step", interrupted)
        with pytest.raises(InterruptionError):
            run(tiny_data, checkpoint, tmp_path)
    torch.manual_seed(99)
    row = run(tiny_data, checkpoint, tmp_path)
    folder, whole = finished
    assert without_size(row) == without_size(whole)
    assert torch.equal(*(embeddings(f / "int8_qat.pt") for f in (folder, tmp_path)))


def test_static_is_kept_where_training_made_it_worse(
    tiny_data: ReidData, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        row = run(tiny_data, checkpoint, tmp_path, qat={**QAT, "epochs": 1, "learning_rate": 0.001})
    decision = row.quantization.decision
    assert row.quantization.kept == "static"
    assert "not better than static" in decision
    assert "int8.pt is int8_static.pt" in decision
    assert decision in caplog.text
    assert (tmp_path / "int8.pt").read_bytes() == (tmp_path / "int8_static.pt").read_bytes()


def test_static_is_kept_where_training_collapsed(
    tiny_data: ReidData, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        row = run(tiny_data, checkpoint, tmp_path, qat={**QAT, "epochs": 1, "learning_rate": 0.1})
    assert (row.quantization.kept, [*row.quantization.variants]) == ("static", ["static"])
    assert "training diverged: static int8 is kept as int8.pt" in row.quantization.decision
    assert "int8_qat.pt is of no use: the model gives the same embedding for all" in caplog.text
    assert {path.name for path in tmp_path.glob("*.pt")} == {"int8.pt", "int8_static.pt"}


def test_static_alone_is_one_file(tiny_data: ReidData, checkpoint: Path, tmp_path: Path) -> None:
    row = run(tiny_data, checkpoint, tmp_path, mode="static", held_back_images=0)
    assert [path.name for path in tmp_path.glob("*.pt")] == ["int8.pt"]
    assert row.quantization.variants["static"].agreement is None
    assert row.quantization.decision == ""


def test_a_budget_leaves_the_costliest_layers_in_float(
    tiny_data: ReidData, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        row = run(
            tiny_data, checkpoint, tmp_path, mode="static", accuracy_budget=1e-9,
            max_float_layers=2,
        ).quantization  # fmt: skip
    assert row.budget is not None
    assert row.scan is not None
    steps = row.budget.steps
    costliest = tuple(layer.layer for layer in row.scan.layers)
    assert [step.float_layers for step in steps] == [(), costliest[:1], costliest[:2]]
    errors = [step.agreement.mean_cosine_error for step in steps]
    kept = row.variants["static"].agreement
    assert kept is not None
    assert kept.mean_cosine_error == min(errors) < errors[0]
    left = {layer.name for layer in row.report.left_in_float if layer.reason == "asked for"}
    assert left
    assert all(name.startswith(costliest[:2]) for name in left)
    assert "misses quantize.accuracy_budget" in caplog.text


def test_a_budget_that_is_met_leaves_everything_int8(
    tiny_data: ReidData, checkpoint: Path, tmp_path: Path
) -> None:
    row = run(tiny_data, checkpoint, tmp_path, mode="static", accuracy_budget=1.0).quantization
    assert row.budget is not None
    assert [step.float_layers for step in row.budget.steps] == [()]
    assert row.scan is None
    assert row.report.int8_convolutions == row.report.convolutions


def test_training_needs_images_to_judge_by(
    tiny_data: ReidData, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=r"calibration takes 48 of 48 training images; lower"):
        run(tiny_data, checkpoint, tmp_path, calibration_images=100)
