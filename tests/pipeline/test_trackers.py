"""Trackers of experiments: what is sent, once, and what happens where one is not there.

The tests with MLflow and Weights & Biases need these: ``pip install mlflow-skinny wandb``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import trackers
from pipeline.config import config_class
from pipeline.preflight import check_choices
from pipeline.run_dir import RunDir
from pipeline.trackers import STATE_FILE, TRACKERS, Tracker, check_trackers, tracking
from reid_edge.core.errors import PipelineError
from tests.pipeline.test_stage_accuracy import ROW, report

Config = config_class()
CSV = "epoch,loss,loss/triplet,validation/mAP\n1,2.5,2,\n2,1.5,1,0.25\n"


class Notebook:
    """A tracker that keeps what it is sent, as Lightning's loggers are called."""

    version = "number 7"

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.numbers: list[tuple[int | None, dict[str, float]]] = []
        self.files: list[str] = []
        self.closed = ""

    def log_hyperparams(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def log_metrics(self, numbers: dict[str, float], step: int | None = None) -> None:
        self.numbers.append((step, numbers))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with a training of two epochs."""
    found = RunDir(tmp_path / "run")
    (found.path / "train").mkdir(parents=True)
    (found.path / "train" / "metrics.csv").write_text(CSV)
    (found.path / "superseded" / "train-1").mkdir(parents=True)
    (found.path / "superseded" / "train-1" / "metrics.csv").write_text(CSV)
    (found.path / "report.html").write_text("<p>")
    return found


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, Notebook]]:
    """The notebooks that were opened, with the number of the run that was given."""
    opened: list[tuple[str | None, Notebook]] = []

    def open_one(config: object, folder: Path, number: str | None) -> Notebook:
        opened.append((number, Notebook()))
        return opened[-1][1]

    monkeypatch.setattr(
        trackers,
        "TRACKERS",
        {
            "mlflow": Tracker(
                "json",
                open_one,
                lambda notebook, _, name: notebook.files.append(name),
                lambda notebook, failed: setattr(notebook, "closed", "failed" if failed else "ok"),
            )
        },
    )
    return opened


def test_what_is_sent(run: RunDir, notebooks: list[tuple[str | None, Notebook]]) -> None:
    config = Config.model_validate({"log": "mlflow", "train": {"epochs": 7}})
    assert config.metric_files == ("csv",)
    with tracking(config, run) as sent:
        sent.epochs()
        sent.epochs()  # nothing new
        sent.results(report(ROW), "the table")
        ((number, notebook),) = notebooks
        assert not notebook.closed
    assert notebook.closed == "ok"
    assert number is None
    assert notebook.settings["train.epochs"] == 7
    assert notebook.numbers[:2] == [
        (1, {"train/loss": 2.5, "train/loss.triplet": 2}),
        (2, {"train/loss": 1.5, "train/loss.triplet": 1, "train/validation.mAP": 0.25}),
    ]  # fmt: skip
    step, final = notebook.numbers[2]
    assert step is None
    assert (final["train/final/rank1"], final["train/final/bytes"]) == (0.75, 1)
    assert notebook.files == ["table.txt", "report.html"]
    assert (run.path / "table.txt").read_text() == "the table"


def test_a_resumed_run_goes_on_in_the_tracker_and_sends_what_is_new(
    run: RunDir, notebooks: list[tuple[str | None, Notebook]]
) -> None:
    config = Config.model_validate({"log": ["csv", "mlflow"]})
    with tracking(config, run) as sent:
        sent.epochs()
    path = run.path / "train" / "metrics.csv"
    path.write_text(path.read_text() + "3,0.5,,\n")
    with tracking(config, run) as sent:
        sent.epochs()
    (_, _), (number, notebook) = notebooks
    assert number == "number 7"
    assert notebook.numbers == [(3, {"train/loss": 0.5})]
    assert not notebook.settings  # MLflow refuses a setting with another value


def test_a_training_that_began_anew_is_sent_whole(
    run: RunDir, notebooks: list[tuple[str | None, Notebook]]
) -> None:
    config = Config.model_validate({"log": "mlflow"})
    path = run.path / "train" / "metrics.csv"
    with tracking(config, run) as sent:
        sent.epochs()
        path.write_text(CSV.replace("1,2.5,2,", "1,3.5,3,"))
        sent.epochs()
    ((_, notebook),) = notebooks
    assert [(step, found["train/loss"]) for step, found in notebook.numbers] == [
        (1, 2.5), (2, 1.5), (1, 3.5), (2, 1.5)
    ]  # fmt: skip


def test_an_interrupted_run_is_no_success(
    run: RunDir, notebooks: list[tuple[str | None, Notebook]]
) -> None:
    def interrupted() -> None:
        with tracking(Config.model_validate({"log": "mlflow"}), run) as sent:
            sent.epochs()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [notebook.closed for _, notebook in notebooks] == ["failed"]


def test_a_tracker_that_fails_ends_nothing(
    run: RunDir,
    notebooks: list[tuple[str | None, Notebook]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("no server")

    monkeypatch.setattr(
        trackers, "TRACKERS", {"mlflow": replace(trackers.TRACKERS["mlflow"], open=refuse)}
    )
    with tracking(Config.model_validate({"log": "mlflow"}), run) as sent:
        for _ in range(3):
            sent.epochs()
    assert caplog.messages == ["mlflow: ConnectionError: no server; nothing more is sent to it"]


def test_without_a_tracker_nothing_is_written(run: RunDir) -> None:
    with tracking(Config(), run) as sent:
        sent.epochs()
        sent.results(report(ROW), "the table")
    assert not (run.path / STATE_FILE).exists()
    assert not (run.path / "table.txt").exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "missing_packages", lambda names: list(names))
    words = rf'^log={name}: needs the package {name}: pip install "reid-edge\[{name}\]"$'
    with pytest.raises(PipelineError, match=words):
        check_choices(Config.model_validate({"log": f"csv,{name}"}))
    check_trackers(("csv", "tensorboard"))


@pytest.fixture
def model(run: RunDir) -> Callable[[], None]:
    (run.path / "train" / "checkpoint.pt").write_bytes(b"weights")
    return lambda: None


def test_mlflow(run: RunDir, model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = Config.model_validate({"name": "trial", "log": "mlflow"})
    for _ in range(2):  # the second is a run that is resumed
        with tracking(config, run) as sent:
            sent.epochs()
            sent.results(report(ROW), "the table")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(trackers.mlflow_store(run.path))
    (experiment,) = (one for one in client.search_experiments() if one.name == "trial")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.params["train.epochs"] == str(config.train.epochs)
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.5), (2, 1.5)]
    history = client.get_metric_history(found.info.run_id, "train/loss.triplet")
    assert [(point.step, point.value) for point in history] == [(1, 2), (2, 1)]
    assert found.data.metrics["train/final/rank1"] == 0.75
    files = {one.path for one in client.list_artifacts(found.info.run_id)}
    assert files == {"table.txt", "report.html", "train"}


def test_wandb_offline(run: RunDir, model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = Config.model_validate({"name": "trial", "log": "wandb"})
    with tracking(config, run) as sent:
        sent.epochs()
        sent.results(report(ROW), "the table")
    wandb.teardown()  # as at the end of the process: the file is complete then
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    (record,) = folder.glob("run-*.wandb")
    content = record.read_bytes()
    for text in (b"train/loss", b"train/final/rank1", b"table.txt", b"checkpoint.pt"):
        assert text in content
