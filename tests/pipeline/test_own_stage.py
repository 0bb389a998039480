"""A stage from outside: one file, and one line of registration or none."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reid_edge
from pipeline.config import config_class
from pipeline.dependencies import describe_changes, stage_settings
from pipeline.plan import make_plan
from pipeline.run_dir import RunDir
from pipeline.stage import Stage, Stages
from pipeline.stage_results import StageResult
from pipeline.stages import STAGES, default_stages
from pipeline.stages.prune import PRUNE, prune_stage
from prune.surgery import cut
from reid_edge.core.errors import PipelineError
from reid_edge.models import build_model
from tests.pipeline.toy_stage import COUNT, CountResult

pytestmark = pytest.mark.medium

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registered() -> Iterator[None]:
    STAGES.register("count", "tests.pipeline.toy_stage:COUNT")
    yield
    STAGES.unregister("count")


def test_a_registered_stage_runs_is_planned_reused_and_shown(
    command: Command, tmp_path: Path, registered: None
) -> None:
    run = ["--run", str(tmp_path / "run")]
    code, out, err = command(*run, "--stages", "train,count", "train.epochs=0")
    assert code == 0, err
    assert "Parameters by layer" in out
    layers = json.loads((tmp_path / "run" / "count" / "count.json").read_text())["layers"]
    counted = {row["layer"]: row["parameters"] for row in layers}
    weight = build_model("osnet_x0_5").get_submodule("conv1.conv").weight
    assert counted["conv1.conv"] == weight.numel()
    # Its settings are known, checked and say why it would run again.
    code, out, _ = command(*run, "--plan", config=False)
    assert out.count("reuse") == 2
    code, out, _ = command(*run, "--plan", "count.smallest=9", config=False)
    assert "count.smallest: 0 -> 9" in " ".join(out.split())
    code, _, err = command(*run, "count.smalest=9", config=False)
    assert code == 2
    assert "unknown setting 'count.smalest'; did you mean 'count.smallest'?" in err
    code, _, err = command(*run, "count.smallest=-1", config=False)
    assert "count.smallest: input should be greater than or equal to 0, found -1" in err
    # Its place is behind finetune, and a new model makes it stale.
    code, _, err = command(*run, "--stages", "count,finetune", config=False)
    assert "each once and in this order: finetune,count" in err
    record = RunDir(tmp_path / "run").record("count")
    assert record is not None
    assert len(record.result_as(CountResult).layers) == len(counted)


def test_an_unregistered_stage_is_passed_from_python(tiny_config: Path, tmp_path: Path) -> None:
    report = reid_edge.run_pipeline(
        tiny_config, stages=["train", "count"], run=tmp_path / "run", extra_stages=[COUNT],
        settings={"train.epochs": 0, "count.smallest": 1000},
    )  # fmt: skip
    result = report.results["count"]
    assert isinstance(result, CountResult)
    assert all(row.parameters > 1000 for row in result.layers)
    assert [row.stage for row in report.rows] == ["train"]
    # The log is written whoever starts the run.
    log = (tmp_path / "run" / "run.log").read_text()
    assert "DEBUG pipeline.run_log: command: " in log
    assert "INFO pipeline.engine: count: started" in log
    again = reid_edge.read_run(tmp_path / "run", extra_stages=[COUNT])
    assert again == report
    # Without the declaration the run can still be read, by what is known.
    with pytest.raises(PipelineError, match=r"unknown stage 'count'"):
        reid_edge.read_run(tmp_path / "run")


def test_a_stage_is_found_stale_by_its_declaration(tiny_config: Path, tmp_path: Path) -> None:
    stages = default_stages().with_stage(COUNT)
    config = config_class(stages).model_validate({"stages": ("train", "count")})
    plan = make_plan(config, RunDir(tmp_path, stages), data_hash="d")
    assert [(step.stage, step.parent) for step in plan.steps] == [
        ("train", None), ("count", "train"),
    ]  # fmt: skip


def test_what_is_wrong_with_a_declaration() -> None:
    def named(name: str, after: str | None = None) -> Stage:
        return Stage(name=name, summary="", settings=COUNT.settings, run=COUNT.run, after=after)

    with pytest.raises(PipelineError, match="stage 'a' is declared twice; rename one of them"):
        Stages([named("a"), named("a")])
    with pytest.raises(PipelineError, match=r"stage 'b' comes after 'x', which is no stage before"):
        Stages([named("a"), named("b", after="x")])
    order = Stages([named("a"), named("z"), named("b", after="a"), named("c", after="a")])
    assert order.names == ("a", "b", "c", "z")
    assert order.with_stage(named("d", after="a")).names == ("a", "b", "c", "d", "z")
    with pytest.raises(PipelineError, match="stage 'train' is registered already"):
        STAGES.register("train", COUNT)


def test_names_that_a_stage_cannot_have() -> None:
    for name, words in (
        ("data", "the name is taken by settings or by the run's folder"),
        ("superseded", "the name is taken"),
        ("copy", "the name is taken"),
        ("../x", "a name has small letters, digits and _"),
        ("a,b", "a name has small letters"),
    ):
        with pytest.raises(PipelineError, match=words):
            Stages([dataclasses.replace(COUNT, name=name, after=None)])


def test_a_stage_follows_another_one_however_they_are_declared() -> None:
    def named(name: str, after: str | None = None) -> Stage:
        return dataclasses.replace(COUNT, name=name, after=after)

    chained = [named("a", "first"), named("b", "a"), named("c", "first"), named("first")]
    assert Stages(chained).names == ("first", "a", "b", "c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"result": StageResult}, "stage count returned CountResult, and its declaration says Sta"),
        ({"run": lambda _: None}, "stage count returned NoneType, and its declaration says Count"),
        ({"model": "changes"}, "stage count left no checkpoint.pt, and its declaration says that"),
        ({"packages": ("no_such_package",), "extra": "x"}, "stage count needs the package no_such"),
    ],
)
def test_a_stage_that_does_not_keep_to_its_declaration(
    tiny_config: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    wrong = dataclasses.replace(COUNT, **change)
    run = tmp_path / "run"
    with pytest.raises(PipelineError, match=words):
        reid_edge.run_pipeline(
            tiny_config, stages="train,count", run=run, extra_stages=[wrong],
            settings={"train.epochs": 0},
        )  # fmt: skip
    assert RunDir(run, default_stages().with_stage(COUNT)).record("count") is None


def test_another_version_of_a_stage_is_not_reused(tiny_config: Path, tmp_path: Path) -> None:
    config = config_class(default_stages()).model_validate({"stages": ("train",)})
    with pytest.raises(PipelineError, match="a cutter needs a version"):
        prune_stage(cut)
    settings = [
        stage_settings(config, stage) for stage in (PRUNE, prune_stage(cut, version="mine"))
    ]
    assert describe_changes(*settings) == ['version: null -> "mine"']
