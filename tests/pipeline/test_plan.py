"""Which model a stage starts from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import DEFAULT_STAGES, STAGES, Config
from pipeline.errors import PipelineError
from pipeline.plan import parent_of, stage_inputs, stage_settings
from pipeline.run_dir import RunDir, StageRecord
from prune.plan_file import PlanFile, write_plan


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
    assert same("quantize", quantize={"accuracy_budget": 0.02})


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
