"""Which model a stage starts from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.plan import (
    latest_cut,
    make_plan,
    parent_of,
    stage_inputs,
    stage_settings,
    stale_records,
)
from pipeline.run_dir import CHECKPOINT, STAGE_FILE, RunDir, StageRecord
from pipeline.settings.stage_names import DEFAULT_STAGES, STAGES
from prune.plan_file import PlanFile, write_plan
from reid.files import hash_file


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., RunDir]:
    """Return a run in which the named stages are finished."""

    def run(*stages: str) -> RunDir:
        run = RunDir(tmp_path / "run")
        for stage in stages:
            run.finish(StageRecord(stage, "", {}, {}, {}, {}, 0, 0.0))
        return run

    return run


def asked(*stages: str) -> Config:
    return Config.model_validate({"stages": stages})


def test_the_stages_of_a_run_that_names_none() -> None:
    assert Config().stages == DEFAULT_STAGES == ("train", "prune", "finetune", "quantize")
    assert [stage for stage in STAGES if stage in DEFAULT_STAGES] == list(DEFAULT_STAGES)


PARENTS = [
    (("train", "prune", "finetune", "resize", "quantize"),
     {"prune": "train", "finetune": "prune", "resize": "finetune", "quantize": "resize"}),
    (("train", "transfer", "finetune", "quantize"),
     {"transfer": "train", "finetune": "transfer", "quantize": "finetune"}),
    (("train", "resize", "quantize"), {"resize": "train", "quantize": "resize"}),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "parents"), PARENTS)
def test_each_goes_on_from_the_latest_before_it(
    finish: Callable[..., RunDir], stages: tuple[str, ...], parents: dict[str, str]
) -> None:
    # What the run has of stages that were not asked for makes no difference.
    run = finish("transfer", "prune", "resize")
    assert {stage: parent_of(stage, asked(*stages), run) for stage in parents} == parents


def test_what_a_run_has_is_taken_where_nothing_earlier_was_asked_for(
    finish: Callable[..., RunDir],
) -> None:
    assert parent_of("quantize", asked("quantize"), finish("train", "finetune")) == "finetune"
    assert parent_of("quantize", asked("train"), finish("resize", "quantize")) == "resize"


def finish_again(run: RunDir, stage: str, parent: str, made: str) -> None:
    """Finish a stage after everything that is there."""
    run.finish(StageRecord(stage, "", {}, {"parent": parent}, {CHECKPOINT: made}, {}, 0, 0.0))
    newest = max(run.finished_at(other) for other in STAGES if run.record(other) is not None)
    os.utime(run.stage_dir(stage) / STAGE_FILE, ns=(newest + 1, newest + 1))


def test_of_transfer_and_prune_the_one_that_was_used_last_counts(
    finish: Callable[..., RunDir],
) -> None:
    run = finish("train")
    assert latest_cut(run) is None
    finish_again(run, "prune", "wide", "pruned")
    finish_again(run, "finetune", "pruned", "tuned")
    finish_again(run, "transfer", "wide", "transferred")
    assert latest_cut(run) == "transfer"
    finish_again(run, "finetune", "transferred", "tuned")
    assert parent_of("finetune", asked("quantize"), run) == "transfer"
    assert parent_of("finetune", asked("finetune", "quantize"), run) == "transfer"
    assert parent_of("finetune", asked("prune"), run) == "prune"
    # Prune is reused, which leaves no trace but what follows.
    finish_again(run, "finetune", "pruned", "tuned")
    assert parent_of("finetune", asked("quantize"), run) == "prune"


def test_prune_does_not_start_from_what_transfer_made(finish: Callable[..., RunDir]) -> None:
    run = finish("transfer", "quantize")
    with pytest.raises(PipelineError, match=r"prune needs a model, and .* has none yet"):
        parent_of("prune", asked("prune"), run)
    assert parent_of("prune", asked("prune"), finish("train")) == "train"


def test_the_distance_counts_where_map_decides_which_weights_are_kept() -> None:
    def same(stage: str, **settings: object) -> bool:
        made = [
            Config.model_validate({**settings, "evaluation": {"distance": distance}})
            for distance in ("cosine", "euclidean")
        ]
        return stage_settings(made[0], stage) == stage_settings(made[1], stage)

    assert same("train")
    assert same("prune")
    assert not same("train", data={"validation_share": 0.1})
    assert not same("prune", prune={"accuracy_budget": 0.02})
    # Verdicts and tables of accuracy are in what these leave.
    assert not any(same(stage) for stage in ("quantize", "export", "benchmark"))


def test_the_threads_count_where_widths_are_timed() -> None:
    def settings(target: object, threads: int) -> dict[str, object]:
        content = {"prune": {"target": target}, "latency": {"threads": threads}}
        return stage_settings(Config.model_validate(content), "prune")

    assert settings({"latency": 0.5}, 1) != settings({"latency": 0.5}, 2)
    assert settings({"macs": 0.5}, 1) == settings({"macs": 0.5}, 2)


def test_a_plan_file_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(width: int) -> tuple[dict[str, str], dict[str, object]]:
        folder = tmp_path / str(width)
        plan = PlanFile(
            architecture="osnet_x1_0", input_size=(64, 32), widths={"conv5.conv": width},
            macs=1, parameters=1,
        )  # fmt: skip
        write_plan(folder / "plan.json", plan)
        monkeypatch.chdir(folder)
        config = Config.model_validate({"prune": {"target": "plan.json"}})
        monkeypatch.chdir(tmp_path)  # the run may go on from elsewhere
        inputs = stage_inputs(config, "prune", data_hash="", parent=None, teacher=None, made={})
        return inputs, stage_settings(config, "prune")

    (first, settings), (second, settings_again) = count(7), count(8)
    assert first["plan"] != second["plan"]
    assert settings == settings_again


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., tuple[Config, RunDir]]:
    """Return settings that name a file, and a run whose stages were made from it."""

    def make(stage: str, *others: str) -> tuple[Config, RunDir]:
        path = tmp_path / "named.json"
        path.write_text("as it was")
        section = {"pretrained": str(path)} if stage == "train" else {"target": str(path)}
        stages = tuple(dict.fromkeys(("train", stage, *others)))
        run = RunDir(tmp_path / "run")
        config = Config.model_validate({"stages": stages, stage: section})
        made: dict[str, dict[str, str]] = {}
        for name in stages:
            parent = made.get(parent_of(name, config, run) or "")
            inputs = stage_inputs(
                config, name, data_hash="d", parent=parent, teacher=None, made=made
            )
            model = run.stage_dir(name) / "checkpoint.pt"
            model.parent.mkdir(parents=True)
            model.write_text(name)
            made[name] = {"checkpoint.pt": hash_file(model)}
            run.finish(
                StageRecord(name, "", stage_settings(config, name), inputs, made[name], {}, 0, 0.0)
            )
        return config, run

    return make


NAMES = [("train", "pretrained", "train.pretrained"), ("prune", "plan", "prune.target")]


@pytest.mark.parametrize(("stage", "name", "key"), NAMES)
def test_a_named_file_that_is_gone_blocks_only_the_stage_that_needs_it(
    named: Callable[..., tuple[Config, RunDir]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    name: str,
    key: str,
) -> None:
    config, run = named(stage, "resize")
    (tmp_path / "named.json").unlink()
    message = rf"named.json: no such file; give {key} an existing one, or leave {stage} out of --s"
    with pytest.raises(PipelineError, match=message):
        make_plan(config, run, data_hash="d")
    later = config.model_copy(update={"stages": ("resize",)})
    with caplog.at_level("WARNING", logger="pipeline"):
        plan = make_plan(later, run, data_hash="d")
    assert f"{stage}: {tmp_path}/named.json is gone; what was made from it stays" in caplog.text
    assert plan.stale == {}
    assert stale_records(config, run) == {}


@pytest.mark.parametrize(("stage", "name", "key"), NAMES)
def test_a_named_file_that_changed_makes_stale_what_was_made_from_it(
    named: Callable[..., tuple[Config, RunDir]], tmp_path: Path, stage: str, name: str, key: str
) -> None:
    config, run = named(stage)
    assert stale_records(config, run) == {}
    (tmp_path / "named.json").write_text("as it is now")
    assert stale_records(config, run)[stage] == f"its input changed: {name}"
    without = config.model_copy(update={stage: type(getattr(config, stage))()})
    assert stage in stale_records(without, run)
