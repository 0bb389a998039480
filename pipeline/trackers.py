"""Trackers of experiments, MLflow and Weights & Biases: what a run sends to them.

Each epoch's numbers are those of ``metrics.csv``; tables, page and files follow when the run ends.
All goes through Lightning's loggers. A run that is resumed goes on in the same run of the tracker.
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.run_dir import RunDir
from reid_edge.core.errors import PipelineError, reason_of
from reid_edge.core.io import write_json
from reid_edge.core.packages import how_to_install, missing_packages

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.report.contents import Report

STATE_FILE = "trackers.json"
TABLE_FILE = "table.txt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracker:
    """A tracker of experiments.

    Attributes:
        package: that it needs, as it is imported.
        open: makes Lightning's logger, from the settings, the run's folder and the number by which
            the tracker knows the run; None: the run is new to it.
        add: gives a logger a file of the run, by its path below the folder.
        close: ends the connection; is told whether the run failed or was interrupted.
    """

    package: str
    open: Callable[[Config, Path, str | None], Any]
    add: Callable[[Any, Path, str], None]
    close: Callable[[Any, bool], None]


def _open_mlflow(config: Config, folder: Path, number: str | None) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    # MLflow 3 refuses a folder as the store unless it is told to; a database needs all of MLflow.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MLFlowLogger(
        experiment_name=config.name,
        run_name=folder.name,
        tracking_uri=mlflow_store(folder),
        run_id=number,
    )


def mlflow_store(folder: Path) -> str:
    """Return where MLflow keeps a run: the server of the environment, or the run's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (folder.resolve() / "mlruns").as_uri()


def _add_to_mlflow(tracker: Any, path: Path, name: str) -> None:
    above = str(Path(name).parent)
    tracker.experiment.log_artifact(tracker.run_id, str(path), None if above == "." else above)


def _open_wandb(config: Config, folder: Path, number: str | None) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        project=config.name,
        name=folder.name,
        save_dir=folder,
        id=number,
        resume="allow",
        # ``wandb sync`` sends what was written offline; WANDB_MODE=online sends it at once.
        offline=os.environ.get("WANDB_MODE") not in ("online", "disabled"),
    )


def _add_to_wandb(tracker: Any, path: Path, name: str) -> None:
    import wandb

    artifact = wandb.Artifact(f"run-{tracker.version}-{name.replace('/', '-')}", type="file")
    artifact.add_file(str(path), name=name)
    tracker.experiment.log_artifact(artifact)


def _close_mlflow(tracker: Any, failed: bool) -> None:
    tracker.finalize("failed" if failed else "success")


def _close_wandb(tracker: Any, failed: bool) -> None:
    tracker.experiment.finish(exit_code=int(failed))


TRACKERS: Mapping[str, Tracker] = {
    "mlflow": Tracker("mlflow", _open_mlflow, _add_to_mlflow, _close_mlflow),
    "wandb": Tracker("wandb", _open_wandb, _add_to_wandb, _close_wandb),
}


def check_trackers(names: tuple[str, ...]) -> None:
    """Check that the packages of the trackers that ``log`` names are installed.

    Raises:
        PipelineError: one is not; the message says how to install it.
    """
    for name in names:
        tracker = TRACKERS.get(name)
        if tracker is not None and missing_packages((tracker.package,)):
            raise PipelineError(
                f"log={name}: needs the package {tracker.package}: {how_to_install(name)}"
            )


@contextmanager
def tracking(config: Config, run: RunDir) -> Iterator[RunTracking]:
    """Send a run to the trackers that ``log`` names; nothing happens if it names none.

    A tracker that fails is named in a warning and left alone from then on.
    """
    sent = RunTracking(config, run)
    try:
        yield sent
    except BaseException:
        sent.close(failed=True)
        raise
    sent.close()


class RunTracking:
    """What a run sends.

    Args:
        config: all settings.
        run: the run's folder.
    """

    def __init__(self, config: Config, run: RunDir) -> None:
        self._config, self._run = config, run
        self._names = [name for name in TRACKERS if name in config.log]
        self._open: dict[str, Any] = {}
        self._path = run.path / STATE_FILE

    def epochs(self) -> None:
        """Send the epochs that are new in the run's ``metrics.csv`` files."""
        self._each(self._send_epochs)

    def results(self, report: Report, table: str) -> None:
        """Send accuracy, size and latency of every stage, the table, the page and all files.

        Args:
            report: of the run.
            table: the closing table as text.
        """
        self._each(self._send_epochs)
        numbers = {}
        for row in report.rows:
            found = {**row.accuracy, "parameters": row.model.parameters, "macs": row.model.macs}
            found["bytes"] = row.model.bytes
            if row.latency is not None:
                found["latency_ms"] = row.latency.median_ms
            numbers.update({f"{row.stage}/final/{key}": value for key, value in found.items()})
        if self._names:
            (self._run.path / TABLE_FILE).write_text(table, encoding="utf-8")
        files = [TABLE_FILE, "report.html", "report.json", "config.yaml"]
        files += [row.model.file for row in report.rows]
        for result in report.results.values():
            files += [file.path for file in result.files if file.path is not None]

        def send(name: str, tracker: Any) -> None:
            tracker.log_metrics(numbers)
            for file in dict.fromkeys(files):
                if (self._run.path / file).is_file():
                    TRACKERS[name].add(tracker, self._run.path / file, file)

        self._each(send)

    def close(self, *, failed: bool = False) -> None:
        """End the connections.

        Args:
            failed: the run failed or was interrupted.
        """

        def end(name: str, tracker: Any) -> None:
            TRACKERS[name].close(tracker, failed)

        self._names = [name for name in self._names if name in self._open]
        self._each(end)

    def _each(self, send: Callable[[str, Any], None]) -> None:
        for name in list(self._names):
            try:
                send(name, self._tracker(name))
            except Exception as error:
                # Hours of training must not end because of a tracker.
                logger.warning("%s: %s; nothing more is sent to it", name, reason_of(error))
                self._names.remove(name)

    def _tracker(self, name: str) -> Any:
        if name not in self._open:
            state = self._state()
            known = state[name].get("run")
            tracker = TRACKERS[name].open(self._config, self._run.path, known)
            state[name]["run"] = tracker.version
            write_json(self._path, state)
            if known is None:
                # MLflow refuses other values in a run; config.yaml, which is sent at the end, has
                # the settings as they are then.
                tracker.log_hyperparams(_flat(self._config.model_dump(mode="json")))
            self._open[name] = tracker
        return self._open[name]

    def _send_epochs(self, name: str, tracker: Any) -> None:
        """Send rows that are not noted in ``trackers.json``, which a training may write again.

        A training that began anew, with other settings, has another first row: all of it is new.
        """
        state = self._state()
        noted = state[name].setdefault("epochs", {})
        first = state[name].setdefault("first", {})
        for path in sorted(self._run.path.glob("*/**/metrics.csv")):
            where = path.parent.relative_to(self._run.path)
            if where.parts[0] not in self._run.stages.names:
                continue  # what was set aside
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row["epoch"].isdecimal()]
            begun = list(rows[0].values()) if rows else None
            if first.get(str(where), begun) != begun:
                noted.pop(str(where), None)
            first[str(where)] = begun
            for row in rows:
                epoch = int(row.pop("epoch"))
                if epoch > noted.get(str(where), 0):
                    # MLflow's folders cannot hold both ``loss`` and ``loss/triplet``.
                    values = {
                        f"{where}/{key.replace('/', '.')}": float(text)
                        for key, text in row.items()
                        if text
                    }
                    tracker.log_metrics(values, step=epoch)
                    noted[str(where)] = epoch
        write_json(self._path, state)

    def _state(self) -> dict[str, dict[str, Any]]:
        """Return by tracker the number of the run there, and the epochs that were sent."""
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            content = {}
        return {name: dict(content.get(name, {})) for name in TRACKERS}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their full names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
