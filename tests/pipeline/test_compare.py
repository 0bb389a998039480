"""Several runs side by side."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.compare_command import main
from pipeline.config import config_class
from pipeline.report.comparison import (
    ComparedRun,
    compare_runs,
    read_runs,
    write_comparison,
)
from pipeline.run_dir import RunDir
from pipeline.settings_io import write_config
from pipeline.stage_results import BenchmarkRow, StageResult
from quantize.measurements import Timing
from tests.pipeline.pages import parse_page
from tests.pipeline.records import make_evaluation, make_model, make_record


def make_run(folder: Path, *, learning_rate: float, accuracy: float) -> Path:
    """A run with a finished training."""
    config = config_class().model_validate({"train": {"learning_rate": learning_rate}})
    run = RunDir(folder)
    run.create()
    run.write_config(write_config(config))
    model = make_model("train/checkpoint.pt", make_evaluation(accuracy))
    run.finish(make_record("train", result=StageResult(model=model), inputs={"data": "d"}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return (
        make_run(tmp_path / "first[a=1]", learning_rate=0.001, accuracy=0.5),
        make_run(tmp_path / "second", learning_rate=0.002, accuracy=0.625),
    )


def test_what_differs_is_shown(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "c.html"
    assert main([*map(str, runs), "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    for text in (printed, page.read_text()):
        for word in ("first[a=1]", "second", "50.0%", "62.5%", "train.learning_rate", "0.002"):
            assert word in text
        assert "train.epochs" not in text  # it is the same
    assert f"page: {page}" in printed
    parsed = parse_page(page.read_text())
    assert parsed.unclosed == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "url(" not in page.read_text()


def timed(run: ComparedRun, name: str, latency: float, cpu: str, threads: int = 1) -> ComparedRun:
    """A run with the time of a file."""
    row = BenchmarkRow(
        name=name, kind="onnx", engine=None, meant_for="any", input_size=(64, 32),
        bytes=1, metrics=make_evaluation(0.5), peak_bytes=None,
        timings=(Timing(1, threads, latency, latency, latency, latency, 1.0, 1.0),),
    )  # fmt: skip
    return replace(run, files=(*run.files, row), cpu=cpu)


def test_files_of_all_runs_are_in_one_chart(runs: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = read_runs(runs)
    assert compare_runs([first, second]).chart is None
    first = timed(timed(first, "a.onnx", 4.0, "one CPU"), "b.onnx", 2.0, "one CPU")
    second = timed(timed(second, "a.onnx", 1.0, "another"), "c.onnx", 1.0, "another", threads=8)
    found = compare_runs([first, second])
    assert found.chart is not None
    # Another number of threads is no fair comparison.
    assert [point.name for point in found.chart.points] == [
        "first[a=1]: a.onnx", "first[a=1]: b.onnx", "second: a.onnx",
    ]  # fmt: skip
    assert [point.best for point in found.chart.points] == [False, False, True]
    assert "latency is not comparable: the machines differ (another, one CPU)" in found.notes
    write_comparison(tmp_path / "c.html", found)
    page = parse_page((tmp_path / "c.html").read_text())
    assert page.unclosed == []
    assert "second: a.onnx: 1.0 ms, mAP 50.0" in page.text


def test_other_images_are_no_comparison(runs: tuple[Path, Path]) -> None:
    first, second = read_runs(runs)
    other = replace(second, report=second.report.model_copy(update={"images": "/data/other"}))
    notes = compare_runs([first, other]).notes
    assert any(note.startswith("accuracy is not comparable: the images differ") for note in notes)


def test_runs_that_cannot_be_compared_are_refused(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(str, runs)
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ([first], "give two or more runs"),
        ([first, str(tmp_path / "empty")], "no run there (no config.yaml in it)"),
        ([first, first], "given twice"),
        ([first, second, "--output", str(tmp_path)], "cannot be written"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
