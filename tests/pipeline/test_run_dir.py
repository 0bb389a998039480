"""The run's folder: locks, records, what is set aside."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.report.contents import iteration_reports
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord, StageResult
from reid_edge.core.errors import PipelineError
from reid_edge.inference.thresholds import StoredThreshold
from tests.pipeline.records import make_evaluation, make_model

RECORD = StageRecord(
    stage="train", fingerprint="f", settings={"a": 1}, inputs={"data": "d"},
    outputs={"checkpoint.pt": "h"}, versions={}, seed=0, seconds=1.5, input_size=(64, 32),
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def test_a_stage_is_done_when_its_record_is_there(run: RunDir) -> None:
    assert run.record("train") is None
    run.finish(RECORD)
    assert run.record("train") == RECORD


def test_a_damaged_record_counts_as_not_made(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    run.finish(RECORD)
    (run.stage_dir("train") / "stage.json").write_text("{")
    with caplog.at_level("WARNING", logger="pipeline"):
        assert run.record("train") is None
    assert "stage.json: cannot be read" in caplog.text


def test_nothing_made_is_lost(run: RunDir) -> None:
    assert run.set_aside("train") is None
    for number in (1, 2):
        run.stage_dir("train").mkdir()
        (run.stage_dir("train") / "x").write_text(str(number))
        aside = run.set_aside("train")
        assert aside is not None
        assert (aside / "x").read_text() == str(number)
    assert not run.stage_dir("train").exists()


def test_what_was_set_aside_may_be_renamed(run: RunDir) -> None:
    for name in ("train-1 baseline", "train-x", "train-7"):
        (run.path / "superseded" / name).mkdir(parents=True)
    run.stage_dir("train").mkdir()
    assert run.set_aside("train") == run.path / "superseded" / "train-8"


def test_a_second_process_is_kept_out(run: RunDir) -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline.run_dir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).locked(): print('in')"
    )
    arguments = [sys.executable, "-c", program, str(run.path)]
    with run.locked():
        refused = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert f"in use by process {os.getpid()}; wait for it" in refused.stderr
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == "in\n"


def test_the_lock_of_a_killed_process_is_waited_for(run: RunDir) -> None:
    # A child that inherited the lock outlives its parent for a moment, as loading workers do.
    program = (
        "import os, sys, time; from pathlib import Path; from pipeline.run_dir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).locked():\n"
        "    if os.fork(): os._exit(0)\n"
        "    time.sleep(2)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(run.path)], check=True)
    with run.locked():
        assert (run.path / "lock.owner").read_text() == str(os.getpid())


def test_a_folder_with_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "prune").mkdir()
    with pytest.raises(PipelineError, match="holds files, but no run"):
        RunDir(tmp_path).create()


def test_setting_aside_takes_the_next_free_number(run: RunDir) -> None:
    (run.path / "superseded" / "train-4").mkdir(parents=True)
    run.stage_dir("train").mkdir()
    aside = run.set_aside("train")
    assert aside is not None
    assert aside.name == "train-5"


def test_a_restart_is_remembered_until_it_is_done(run: RunDir) -> None:
    assert run.restarted_from() is None
    run.mark_restart("prune")
    assert run.restarted_from() == "prune"
    run.mark_restart(None)
    assert run.restarted_from() is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="cannot make the run folder"):
        RunDir(tmp_path / "file" / "run").create()


def test_what_a_killed_command_left_is_removed(run: RunDir) -> None:
    left = (
        "train/last.ckpt", "train/checksums.json", "train/iteration_1/best.ckpt",
        "export/.float.onnx.4711.tmp", "latency.json.partial", "superseded/train-1/x.json.partial",
        ".images-1.abc.unfinished/a.jpg", "teacher_embeddings/.x.npy.4711.tmp",
    )  # fmt: skip
    kept = (
        "train/checkpoint.pt", "prune/last.ckpt", "prune/checksums.json", "export/float.onnx",
        "teacher_embeddings/x.npy", "superseded/train-1/last.ckpt", "images-1/a.jpg.partial",
    )  # fmt: skip
    for name in (*left, *kept):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    run.finish(RECORD)  # the stage train is finished, prune and export are not
    run.remove_leftovers()
    assert [name for name in left if (run.path / name).exists()] == []
    assert [name for name in kept if not (run.path / name).exists()] == []


def test_a_plan_is_an_output(run: RunDir) -> None:
    (run.stage_dir("prune")).mkdir()
    for name in ("checkpoint.pt", "kept.json", "plan.json", "metrics.json"):
        (run.stage_dir("prune") / name).write_text(name)
    outputs = run.hash_outputs("prune", StageResult())
    assert list(outputs) == ["checkpoint.pt", "kept.json", "plan.json"]


MODEL_OF_A_TRACKER = "trackers/int8/normalising.onnx"
RESULT_FILES = ("calibration.json", "metrics.json", "quantization.json", MODEL_OF_A_TRACKER)


def _finish(run: RunDir) -> StageRecord:
    """Finish a stage that leaves a model, results, a threshold, what a page shows, and state."""
    folder = run.stage_dir("train")
    folder.mkdir(exist_ok=True)
    model = make_model("train/checkpoint.pt", make_evaluation())
    (folder / "metrics.json").write_bytes(model.metrics.to_json().encode())
    for name in ("checkpoint.pt", "calibration.json", "quantization.json"):
        (folder / name).write_text(name)
    for name in ("started.json", "stage.json", "found.json", "checksums.json"):
        (folder / name).write_text("{}")
    (folder / MODEL_OF_A_TRACKER).parent.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_OF_A_TRACKER).write_text("a model")
    (folder / MODEL_OF_A_TRACKER).with_name("botsort.yaml").write_text("threshold: 0.2")
    content = {**asdict(StoredThreshold(0.5, 1e-3, "set", 1, 1)), "model": {}}
    (folder / "checkpoint.pt.threshold.json").write_text(json.dumps(content))
    result = StageResult(model=model)
    outputs = run.hash_outputs("train", result)
    results = run.hash_results("train", outputs)
    record = RECORD.model_copy(update={"result": result, "outputs": outputs, "results": results})
    run.finish(record)
    return record


def test_every_result_file_of_a_stage_has_its_hash(run: RunDir) -> None:
    record = _finish(run)
    assert tuple(record.results) == RESULT_FILES
    assert run.record("train") == record
    assert run.changed_files(record) == []


@pytest.mark.parametrize("damage", ["cut short", "emptied", "missing"])
@pytest.mark.parametrize(
    "name",
    ["calibration.json", "quantization.json", MODEL_OF_A_TRACKER, "checkpoint.pt.threshold.json"],
)
def test_a_damaged_result_file_is_found(run: RunDir, name: str, damage: str) -> None:
    record, path = _finish(run), run.stage_dir("train") / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"")
    if damage == "missing":
        path.unlink()
    # Somebody may remove a threshold; the stage need not run again for it.
    removable = damage == "missing" and name.endswith(".threshold.json")
    assert run.changed_files(record) == ([] if removable else [path])


def test_another_threshold_may_be_stored_beside_a_model(run: RunDir) -> None:
    record, path = _finish(run), run.stage_dir("train") / "checkpoint.pt.threshold.json"
    path.write_text(path.read_text().replace("0.5", "0.625"))
    assert run.changed_files(record) == []


@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_damaged_metrics_are_written_again_from_the_record(
    run: RunDir, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    record, path = _finish(run), run.stage_dir("train") / "metrics.json"
    before = path.read_bytes()
    run.restore_metrics(record)
    assert caplog.text == ""
    path.write_bytes(before[:-9])
    if damage == "missing":
        path.unlink()
    assert run.changed_files(record) == []
    read = run.record("train")
    assert read is not None
    run.restore_metrics(read)
    assert path.read_bytes() == before
    assert "metrics.json was missing or changed" in caplog.text


@pytest.mark.parametrize("content", ["", '{"iteration": 1', "[]"])
def test_a_truncated_report_of_an_iteration_is_left_out(
    run: RunDir, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = run.stage_dir("prune") / "iteration_1" / "iteration.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with caplog.at_level("WARNING", logger="pipeline"):
        assert iteration_reports(run) == []
    assert "the report leaves it out" in caplog.text
