"""On which pictures the accuracy budget of an iteration is judged."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config import Config
from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.pictures import split_validation
from pipeline.stages import prune
from prune.report import IterationReport
from reid.data.records import ReidData
from reid.models import build_model
from reid.models.checkpoint import describe, load_checkpoint, save_checkpoint


@pytest.fixture
def context(
    tiny_data: ReidData,
    tmp_path: Path,
    randomise_normalisation: Callable[[nn.Module], None],
) -> Callable[[float], StageContext]:
    """Return a stage prune whose one untuned cut of random channels may lose nothing."""
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=8, embedding_dim=32)
    randomise_normalisation(model)
    parent = tmp_path / "parent.pt"
    save_checkpoint(parent, model, describe(model, "osnet_x0_25", input_size=(64, 32)))

    def make(validation_share: float) -> StageContext:
        config = Config.model_validate(
            {
                "data": {"root": str(tiny_data.root), "height": 64, "width": 32, "workers": 0,
                         "validation_share": validation_share},
                "model": {"architecture": "osnet_x0_25", "embedding_dim": 32},
                "prune": {"target": 0.2, "iterations": 1, "criterion": "random",
                          "reconstruction_pictures": 0, "recalibration_pictures": 0,
                          "accuracy_budget": 1e-4, "extra_tuning": 0, "tuning": {"epochs": 0}},
            }
        )  # fmt: skip
        data, validation = split_validation(config, tiny_data)
        folder = tmp_path / f"prune-{validation_share}"
        return StageContext(
            "prune", config, folder, data, parent, parent, "", (64, 32), validation=validation
        )

    return make


def test_identities_set_apart_judge_where_there_are_any(
    context: Callable[[float], StageContext],
) -> None:
    stage = context(0.5)
    row = prune.run(stage)
    folder = stage.folder / "iteration_1"
    report = json.loads((folder / "report.json").read_text())
    assert stage.validation is not None
    apart = replace(stage, data=stage.validation)
    for step, path in (("before", stage.parent), ("after_tuning", folder / "checkpoint.pt")):
        assert path is not None
        model, _ = load_checkpoint(path)
        expected = evaluate(model, apart)["cosine"]["mean_average_precision"]
        assert report["validated"][step] == pytest.approx(expected)
        assert report["accuracy"][step]["mAP"] != pytest.approx(expected)
    lost = report["validated"]["before"] - report["validated"]["after_tuning"]
    assert lost > 0
    assert f"lost {100 * lost:.1f} mAP on the identities set apart, more than" in row["note"]
    said = IterationReport.from_dict(report).summary()
    assert "mAP on the identities set apart, for the budget: before " in said


def test_query_and_gallery_judge_where_none_are_set_apart(
    context: Callable[[float], StageContext],
) -> None:
    stage = context(0.0)
    row = prune.run(stage)
    report = json.loads((stage.folder / "iteration_1" / "report.json").read_text())
    assert report["validated"] == {}
    lost = report["accuracy"]["before"]["mAP"] - report["accuracy"]["after_tuning"]["mAP"]
    assert lost > 0
    assert f"lost {100 * lost:.1f} mAP, more than" in row["note"]
