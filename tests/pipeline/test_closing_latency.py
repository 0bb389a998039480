"""Latency is measured once on a machine, and again on another one."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.closing_latency import LATENCY_FILE, measure_run, valid_latency
from pipeline.config import config_class
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageResult
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint
from tests.pipeline.records import make_model, make_record

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()

CONFIG = Config.model_validate({"latency": {"rounds": 2}})


def result_with(stage: str) -> StageResult:
    return StageResult(model=make_model(f"{stage}/checkpoint.pt"))


def timed(run: RunDir) -> list[str]:
    """The stages whose latency counts."""
    latency = valid_latency(run)
    return [] if latency is None else [model.stage for model in latency.models]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose only stage made a model, timed already."""
    folder = RunDir(tmp_path)
    folder.stage_dir("train").mkdir()
    model = build_model("small_net", num_classes=2).eval()
    about = describe(model, "small_net", input_size=(32, 16))
    save_checkpoint(tmp_path / "train" / "checkpoint.pt", model, about)
    folder.finish(make_record("train", input_size=(32, 16), result=result_with("train")))
    measure_run(CONFIG, folder)
    return folder


def measured(run: RunDir) -> int:
    return (run.path / LATENCY_FILE).stat().st_mtime_ns


@pytest.mark.parametrize("key", ["cpu", "architecture", "torch"])
def test_latency_of_another_machine_is_not_reused(run: RunDir, key: str) -> None:
    first = measured(run)
    measure_run(CONFIG, run)
    assert measured(run) == first
    content = json.loads((run.path / LATENCY_FILE).read_text())
    here = content["machine"][key]
    content["machine"][key] = "another"
    (run.path / LATENCY_FILE).write_text(json.dumps(content))
    measure_run(CONFIG, run)
    assert json.loads((run.path / LATENCY_FILE).read_text())["machine"][key] == here


def test_it_is_measured_again_without_its_file(run: RunDir) -> None:
    (run.path / LATENCY_FILE).unlink()
    measure_run(CONFIG, run)
    assert (run.path / LATENCY_FILE).is_file()


def test_what_was_measured_of_former_files_says_nothing(run: RunDir) -> None:
    assert timed(run) == ["train"]
    shutil.copytree(run.stage_dir("train"), run.stage_dir("finetune"))
    first = run.record("train")
    assert first is not None
    later = first.model_copy(update={"stage": "finetune", "result": result_with("finetune")})
    run.finish(later)
    measure_run(CONFIG, run)
    assert timed(run) == ["train", "finetune"]
    # The last stage runs again, and the run is read before that stage ends.
    run.finish(later.model_copy(update={"outputs": {"checkpoint.pt": "another hash"}}))
    assert timed(run) == ["train"]
    run.finish(later)
    (run.path / "finetune" / "checkpoint.pt").unlink()
    measure_run(CONFIG, run)
    assert timed(run) == ["train"]
    # Ratios are to the first.
    run.finish(later)
    run.finish(first.model_copy(update={"outputs": {"checkpoint.pt": "another hash"}}))
    assert timed(run) == []
