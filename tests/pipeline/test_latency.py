"""Latency is measured once on a machine, and again on another one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.latency import LATENCY_FILE, measure_run, valid_latency
from pipeline.run_dir import RunDir, StageRecord
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint

CONFIG = Config.model_validate({"latency": {"rounds": 2}})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose only stage made a model, timed already."""
    folder = RunDir(tmp_path)
    folder.stage_dir("train").mkdir()
    model = build_model("osnet_x0_25", num_classes=2).eval()
    about = describe(model, "osnet_x0_25", input_size=(32, 16))
    save_checkpoint(tmp_path / "train" / "checkpoint.pt", model, about)
    settings = {"data": {"height": 32, "width": 16}}
    result = {"file": "train/checkpoint.pt"}
    folder.finish(StageRecord("train", "", settings, {}, {}, {}, 0, 0.0, result))
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
    assert list(valid_latency(run)["stages"]) == ["train"]
    shutil.copytree(run.stage_dir("train"), run.stage_dir("finetune"))
    first = run.record("train")
    assert first is not None
    later = replace(first, stage="finetune", result={"file": "finetune/checkpoint.pt"})
    run.finish(later)
    measure_run(CONFIG, run)
    assert list(valid_latency(run)["stages"]) == ["train", "finetune"]
    # The last stage is made anew, and before its end the run is looked at.
    run.finish(replace(later, outputs={"checkpoint.pt": "another hash"}))
    assert list(valid_latency(run)["stages"]) == ["train"]
    run.finish(later)
    (run.path / "finetune" / "checkpoint.pt").unlink()
    measure_run(CONFIG, run)
    assert list(valid_latency(run)["stages"]) == ["train"]
    # Ratios are to the first.
    run.finish(later)
    run.finish(replace(first, outputs={"checkpoint.pt": "another hash"}))
    assert valid_latency(run) == {}
