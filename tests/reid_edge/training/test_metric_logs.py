"""An epoch is in the logs once, whatever happened in between."""

import csv
import sys
import threading
from pathlib import Path

import lightning
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reid_edge.core.errors import TrainingError
from reid_edge.training.metric_logs import CsvRows, MetricLog, TensorBoardPoints


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(name)]


def test_rows_of_epochs_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = CsvRows(path)
    for epoch in (1, 2, 3):
        first.write(epoch, {"loss": epoch})
    again = CsvRows(path)
    again.write(3, {"loss": 30.5})
    again.write(4, {"loss": 4, "validation/mAP": 0.25})
    assert [row["loss"] for row in read_csv(path)] == ["1", "2", "30.5", "4"]
    assert [row["epoch"] for row in read_csv(path)] == ["1", "2", "3", "4"]
    assert [row["validation/mAP"] for row in read_csv(path)] == ["", "", "", "0.25"]
    CsvRows(path).write(1, {"loss": 7})
    assert [row["loss"] for row in read_csv(path)] == ["7"]


@pytest.mark.parametrize("damaged", [b"", b"epo\xff\xfe", b"epoch,loss\none,2\n", b"loss\n1\n"])
def test_a_damaged_file_begins_again(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(damaged)
    CsvRows(path).write(3, {"loss": 0.5})
    assert read_csv(path) == [{"epoch": "3", "loss": "0.5"}]


def test_a_log_that_is_torn_down_leaves_nothing_open(tmp_path: Path) -> None:
    threads = threading.active_count()
    log = MetricLog(tmp_path, ("csv", "tensorboard"))
    for writer in log._writers:
        writer.write(1, {"loss": 0.5})
    assert threading.active_count() == threads + 1
    log.teardown(lightning.Trainer(logger=False), lightning.LightningModule(), "fit")
    assert threading.active_count() == threads


def test_tensorboard_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(TrainingError) as caught:
        MetricLog(tmp_path, ("csv", "tensorboard"))
    assert str(caught.value) == (
        "log=tensorboard: needs the package tensorboard: pip install -r requirements.txt"
    )


def test_points_of_epochs_that_are_done_again_are_void(tmp_path: Path) -> None:
    first = TensorBoardPoints(tmp_path)
    for epoch in (1, 2, 3):
        first.write(epoch, {"loss": epoch})
    again = TensorBoardPoints(tmp_path)
    again.write(3, {"loss": 30.5})
    again.write(4, {"loss": 4})
    assert read_curve(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 30.5), (4, 4.0)]
