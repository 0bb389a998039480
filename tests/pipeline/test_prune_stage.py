"""The stage prune by itself: on which images its budget is judged, what its plan names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.run_images import split_validation
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import StageResult
from pipeline.stages.prune import PRUNE
from prune.layer_widths import layer_widths
from prune.plan_file import read_plan
from prune.report import read_report
from reid_edge.data.schema import ReidData
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from tests.pipeline.records import make_evaluation, make_model, make_record

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()

ONE_UNTUNED_CUT = {
    "iterations": 1, "criterion": "random", "reconstruction_images": 0,
    "recalibration_images": 0, "tuning": {"epochs": 0},
}  # fmt: skip
NO_LOSS = {"target": 0.2, "accuracy_budget": 1e-4, "extra_tuning": 0}

MakeContext = Callable[..., StageContext]


@pytest.fixture
def context(
    tiny_data: ReidData,
    tmp_path: Path,
    randomise_normalisation: Callable[[nn.Module], None],
) -> MakeContext:
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=8, embedding_dim=32)
    randomise_normalisation(model)
    parent = tmp_path / "parent.pt"
    save_checkpoint(parent, model, describe(model, "small_net", input_size=(64, 32)))

    def make(settings: dict[str, Any], validation_share: float = 0.0) -> StageContext:
        data = {"root": str(tiny_data.root), "height": 64, "width": 32, "workers": 0}
        config = Config.model_validate(
            {
                "data": {**data, "validation_share": validation_share},
                "model": {"architecture": "small_net", "embedding_dim": 32},
                "prune": {**ONE_UNTUNED_CUT, **settings},
            }
        )
        rest, validation = split_validation(config, tiny_data)
        folder = tmp_path / "prune"
        return StageContext(
            "prune",
            config,
            config.prune,
            folder,
            rest,
            parent,
            parent,
            "",
            (64, 32),
            validation=validation,
        )

    return make


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_identities_set_apart_judge_where_there_are_any(context: MakeContext, share: float) -> None:
    stage = context(NO_LOSS, validation_share=share)
    note = PRUNE.run(stage).note
    folder = stage.folder / "iteration_1"
    report = read_report(folder / "iteration.json")
    shown = {step: report.accuracy[step]["mAP"] for step in ("before", "after_tuning")}
    judged = report.validated if stage.validation else shown
    assert bool(report.validated) == ("identities set apart" in report.summary()) == (share > 0)
    judge = replace(stage, data=stage.validation or stage.data)
    for step, path in (("before", stage.parent), ("after_tuning", folder / "checkpoint.pt")):
        assert path is not None
        model, _ = load_checkpoint(path)
        found = evaluate_stage(model, judge, may_collapse=True)
        expected = found.ranking["cosine"].mean_average_precision
        assert judged[step] == pytest.approx(expected)
    lost = judged["before"] - judged["after_tuning"]
    where = " on the identities set apart" if share else ""
    assert (f"lost {100 * lost:.1f} mAP{where}, more than" in note) == (lost > 1e-4)


def test_the_accuracy_before_the_cut_is_that_of_the_stage_before(context: MakeContext) -> None:
    stage = context({"target": 0.5})
    assert stage.parent is not None
    model = make_model("train/checkpoint.pt", make_evaluation(0.123))
    made = {stage.parent.parent.name: make_record("train", result=StageResult(model=model))}
    PRUNE.run(replace(stage, made=made))
    report = read_report(stage.folder / "iteration_1" / "iteration.json")
    assert report.accuracy["before"]["mAP"] == 0.123


@pytest.mark.parametrize("target", [1.0, 0.5])
def test_a_plan_fits_data_of_another_number_of_people(context: MakeContext, target: float) -> None:
    stage = context({"target": target})
    PRUNE.run(stage)
    model, _ = load_checkpoint(stage.folder / "checkpoint.pt")
    expected = {name: n for name, n in layer_widths(model).items() if name != "classifier"}
    assert read_plan(stage.folder / "plan.json").widths == expected
