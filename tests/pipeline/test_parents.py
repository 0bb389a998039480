"""Which model a stage starts from."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import config_class
from pipeline.plan import latest_cut, parent_of
from pipeline.run_dir import CHECKPOINT, STAGE_FILE, RunDir
from pipeline.stages import default_stages
from reid_edge.core.errors import PipelineError
from tests.pipeline.records import make_record

Config = config_class()
DEFAULT_STAGES = default_stages().default_names
STAGES = default_stages().names


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., RunDir]:
    """Return a run in which the named stages are finished."""

    def run(*stages: str) -> RunDir:
        run = RunDir(tmp_path / "run")
        for stage in stages:
            run.finish(make_record(stage))
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
def test_each_starts_from_the_latest_before_it(
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
    run.finish(make_record(stage, inputs={"parent": parent}, outputs={CHECKPOINT: made}))
    newest = max(run.finished_at(other) for other in STAGES if run.record(other) is not None)
    os.utime(run.stage_dir(stage) / STAGE_FILE, ns=(newest + 1, newest + 1))


def test_of_transfer_and_prune_the_one_that_was_used_last_counts(
    finish: Callable[..., RunDir],
) -> None:
    run = finish("train")
    config = Config()
    assert latest_cut(config, run) is None
    finish_again(run, "prune", "wide", "pruned")
    finish_again(run, "finetune", "pruned", "tuned")
    finish_again(run, "transfer", "wide", "transferred")
    assert latest_cut(config, run) == "transfer"
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
