"""What a file that settings name does to what a run has."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.config import config_class
from pipeline.dependencies import made_by, stage_inputs, stage_settings
from pipeline.plan import Plan, Step, make_plan, parent_of, stale_records
from pipeline.report.tables import plan_table
from pipeline.run_dir import RunDir
from pipeline.stage import Made
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file
from tests.pipeline.records import make_record

Config = config_class()


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
        made: dict[str, Made] = {}
        for name in stages:
            parent = parent_of(name, config, run)
            inputs = stage_inputs(
                config, config.declared[name], data_hash="d", parent=parent, made=made
            )
            model = run.stage_dir(name) / "checkpoint.pt"
            model.parent.mkdir(parents=True)
            model.write_text(name)
            outputs = {"checkpoint.pt": hash_file(model)}
            settings = stage_settings(config, config.declared[name])
            record = make_record(name, settings=settings, inputs=inputs, outputs=outputs)
            run.finish(record)
            made[name] = made_by(record)
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


def test_a_reason_with_brackets_is_shown_as_it_is() -> None:
    step = Step("train", "run", "runs/x[lr=0.1]/train/checkpoint.pt is missing", None, {})
    table = plan_table(Plan((step,), {"prune": "runs/x[lr=0.1] changed"}), {})
    console = Console(width=150)
    with console.capture() as captured:
        console.print(table)
    assert step.reason in captured.get()
    assert "runs/x[lr=0.1] changed" in captured.get()
