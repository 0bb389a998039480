"""The results of a run that the next plan would make again."""

import os
from pathlib import Path

import pytest

from pipeline.config import config_class
from pipeline.dependencies import fingerprint, made_by, stage_inputs, stage_settings
from pipeline.plan import (
    can_resume,
    can_resume_slower,
    make_plan,
    mark_started,
    parent_of,
    rateless_fingerprint,
    stale_records,
)
from pipeline.run_dir import CHECKPOINT, STAGE_FILE, RunDir
from pipeline.stage import JsonDict
from pipeline.stages import default_stages
from reid_edge.core.io import hash_file
from tests.pipeline.records import make_record

Config = config_class()
STAGES = default_stages().names


class Commands:
    """A run in which stages are finished as a command would finish them, without the work."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        self.clock = 0

    def make(self, *stages: str, again: str = "") -> Config:
        """Finish the stages that are not there; return the settings of that command."""
        config = Config.model_validate({"stages": stages})
        for stage in stages:
            if stage == again or self.run.record(stage) is None:
                self._finish(config, stage)
        return config

    def _finish(self, config: Config, stage: str) -> None:
        made = {
            name: made_by(record)
            for name in STAGES[: STAGES.index(stage)]
            if (record := self.run.record(name)) is not None
        }
        parent = parent_of(stage, config, self.run)
        inputs = stage_inputs(
            config, config.declared[stage], data_hash="d", parent=parent, made=made
        )  # fmt: skip
        self.clock += 1
        model = self.run.stage_dir(stage) / ("int8.pt" if stage == "quantize" else CHECKPOINT)
        model.parent.mkdir(parents=True, exist_ok=True)
        model.write_text(f"{stage} {self.clock}")
        outputs = {model.name: hash_file(model)}
        settings = stage_settings(config, config.declared[stage])
        self.run.finish(make_record(stage, settings=settings, inputs=inputs, outputs=outputs))
        os.utime(self.run.stage_dir(stage) / STAGE_FILE, ns=(self.clock, self.clock))


@pytest.fixture
def made(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "run")


@pytest.mark.parametrize(
    ("first", "second", "stale"),
    [
        (["train", "prune", "finetune", "quantize"], ["quantize"], []),
        (["train", "prune", "quantize"], ["finetune"], ["quantize"]),
        (["train", "prune", "finetune", "quantize"], ["train", "transfer"],
         ["finetune", "quantize"]),
        (["train", "prune", "finetune", "export"], ["quantize"], ["export"]),
        (["train", "prune", "finetune", "benchmark"], ["quantize"], ["benchmark"]),
    ],
)  # fmt: skip
def test_the_report_and_the_plan_agree_on_what_is_stale(
    made: Commands, first: list[str], second: list[str], stale: list[str]
) -> None:
    made.make(*first)
    config = made.make(*second)
    assert list(stale_records(config, made.run)) == stale
    plan = make_plan(config, made.run, data_hash="d")
    assert list(plan.stale) == stale
    assert {step.action for step in plan.steps} == {"reuse"}


def test_all_that_came_from_a_model_that_is_made_again_is_stale(made: Commands) -> None:
    made.make("train", "prune", "finetune")
    config = made.make("train", again="train")
    assert list(stale_records(config, made.run)) == ["prune", "finetune"]


def test_what_was_made_of_a_model_that_is_gone_is_stale(made: Commands) -> None:
    config = made.make("train", "quantize")
    (made.run.stage_dir("train") / STAGE_FILE).unlink()
    assert stale_records(config, made.run) == {"quantize": "its input changed: parent"}
    later = config.model_copy(update={"stages": ("quantize",)})
    assert stale_records(later, made.run) == {"quantize": "the model it was made from is gone"}


def test_what_is_made_of_other_images_than_the_newest_is_stale(made: Commands) -> None:
    config = made.make("train", "prune")
    record = made.run.record("prune")
    assert record is not None
    record.inputs["data"] = "others"
    made.run.finish(record)
    assert stale_records(config, made.run)["train"] == "its input changed: data"


def test_only_what_is_unfinished_is_resumed(made: Commands) -> None:
    folder = made.run.stage_dir("train")
    assert not can_resume(made.run, "train", "wanted")
    folder.mkdir(parents=True)
    mark_started(folder, "wanted")
    assert can_resume(made.run, "train", "wanted")
    assert not can_resume(made.run, "train", "other")
    # A record that cannot be read was one: what the stage made is set aside, not written over.
    (folder / STAGE_FILE).write_text("{")
    assert not can_resume(made.run, "train", "wanted")


def test_a_stage_that_diverged_is_resumed_with_another_rate(made: Commands) -> None:
    settings: JsonDict = {"seed": 1, "train": {"epochs": 3, "learning_rate": 1e6}}
    slower: JsonDict = {"seed": 1, "train": {"epochs": 3, "learning_rate": 1e-3}}
    shorter: JsonDict = {"seed": 1, "train": {"epochs": 2, "learning_rate": 1e-3}}
    rateless = [rateless_fingerprint(one, {"data": "d"}) for one in (settings, slower, shorter)]
    folder = made.run.stage_dir("train")
    (folder / "round_1").mkdir(parents=True)
    mark_started(folder, fingerprint(settings, {"data": "d"}), rateless[0])
    assert not can_resume_slower(made.run, "train", rateless[1])  # it did not diverge
    (folder / "round_1" / "diverged.json").write_text("{}")
    assert can_resume_slower(made.run, "train", rateless[1])
    assert not can_resume_slower(made.run, "train", rateless[2])
    assert not can_resume_slower(made.run, "train", rateless_fingerprint(slower, {"data": "e"}))
    (folder / STAGE_FILE).write_text("{")
    assert not can_resume_slower(made.run, "train", rateless[1])
