"""The stage ``benchmark`` at the end of a tiny run, and what later commands make of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.command import main
from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.model_files import model_files
from pipeline.report.text import breakable
from pipeline.run_dir import RunDir
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stages.benchmark import BenchmarkStage
from reid_edge.core.int8_engine import Engine, quantized_engine, supported_engines
from reid_edge.data.schema import ReidData
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.metrics.results import Evaluation

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()

CONFIG = """
name: measured
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: resnet18_x0_5, embedding_dim: 32}}
prune: {{target: 0.5}}
train: {{epochs: 0}}
quantize: {{calibration_images: 4, observer: minmax}}
benchmark: {{rounds: 2, batches: [1, 2], threads: [1]}}
latency: {{rounds: 2}}
"""
STAGES = "train,quantize,benchmark"


@pytest.fixture(scope="module")
def finished(
    short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "c.yaml").write_text(CONFIG.format(root=tiny_market))
    arguments = ["--config", str(folder / "c.yaml"), "--run", str(folder / "run")]
    assert main([*arguments, "--stages", STAGES]) == 0
    return folder / "run"


@pytest.fixture
def benchmark(finished: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((finished / "benchmark" / "benchmark.json").read_text())
    return content


def test_every_file_is_measured_on_its_engine_and_on_this_machines(
    finished: Path, benchmark: dict[str, Any], tiny_data: ReidData
) -> None:
    names = ["train/checkpoint.pt", "quantize/int8.pt"]
    if "onednn" in supported_engines():
        names.append("quantize/int8.pt on onednn")
    assert [row["name"] for row in benchmark["rows"]] == names
    for row in benchmark["rows"]:
        path = finished / row["name"].removesuffix(" on onednn")
        assert row["bytes"] == path.stat().st_size
        if row["name"] == path.relative_to(finished).as_posix():
            metrics = Evaluation.from_json((path.parent / "metrics.json").read_text())
        else:
            metrics = on_engine(path, "onednn", tiny_data)
        assert Evaluation.model_validate(row["metrics"]) == metrics
        assert [timing["batch"] for timing in row["timings"]] == [1, 2]
        assert row["peak_bytes"] > row["bytes"] / 2
    assert benchmark["rows"][1]["meant_for"] == "ARM (QNNPACK)"
    assert benchmark["machine"]["cpu"]


def on_engine(path: Path, engine: Engine, data: ReidData) -> Evaluation:
    context = StageContext(
        stage="benchmark", config=Config.model_validate({"data": {"workers": 0}}),
        settings=BenchmarkStage(), folder=path.parent, data=data, parent=None, teacher=None,
        parent_hash="", input_size=(64, 32),
    )  # fmt: skip
    model, _ = load_torchscript(path, engine)
    with quantized_engine(engine):
        return evaluate_stage(model, context, device="cpu")


@pytest.mark.skipif("onednn" not in supported_engines(), reason="needs oneDNN")
def test_accuracy_on_another_engine_is_not_that_of_the_files_own(finished: Path) -> None:
    record = RunDir(finished).record("quantize")
    assert record is not None
    assert record.result.model is not None
    own, other = model_files(finished, {"quantize": record})
    assert (own.engine, own.metrics) == ("qnnpack", record.result.model.metrics)
    assert (other.engine, other.metrics) == ("onednn", None)


def test_the_table_says_which_machine_a_file_is_meant_for(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(finished), "--report"]) == 0
    text = capsys.readouterr().out
    assert "ARM (QNNPACK)" in text
    assert "QNNPACK is built for ARM" in text
    # The stage makes no model, so it is no row among the models.
    assert not re.search(r"^benchmark ", text, re.MULTILINE)


def test_the_page_draws_every_file(finished: Path, benchmark: dict[str, Any]) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<circle ") == len(benchmark["rows"])
    for row in benchmark["rows"]:
        assert f"<td>{breakable(row['name'])}</td>" in page


def test_what_was_measured_is_kept_until_a_file_changes(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = finished / "benchmark" / "stage.json"
    before = record.stat().st_mtime_ns
    assert main(["--run", str(finished)]) == 0
    assert record.stat().st_mtime_ns == before
    changed = ["quantize.calibration_images=5"]
    capsys.readouterr()
    assert main(["--run", str(finished), "--plan", *changed]) == 0
    assert "quantize/int8.pt" in capsys.readouterr().out  # the reason to measure again
    assert main(["--run", str(finished), "--stages", "train,quantize", *changed]) == 0
    report = json.loads((finished / "report.json").read_text())
    assert "benchmark" not in report["results"]  # of files that are no more
    assert (finished / "report.html").read_text().count("<circle ") == 0
