"""The results of a run, as one object (``report.json``)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import SerializeAsAny

from pipeline.closing_latency import valid_latency
from pipeline.config import Config
from pipeline.plan import stale_records
from pipeline.run_dir import RunDir
from pipeline.stage_results import (
    SCHEMA_VERSION,
    Latencies,
    ModelLatency,
    ModelResult,
    Result,
    StageResult,
    headline,
    main_measure,
)
from prune.report import IterationReport, read_report
from reid_edge.core.errors import PruneError, one_line
from reid_edge.core.io import write_bytes

REPORT_JSON = "report.json"

logger = logging.getLogger(__name__)


class ReportRow(Result):
    """A row of the closing table: a stage that made a model.

    Attributes:
        stage: name of the stage.
        model: the model that the stage made.
        input_size: (height, width).
        accuracy: mAP, rank1, rank5, rank10 and, if it was measured, EER, between 0 and 1; without
            identities the measures beside the full-width model, see
            :func:`pipeline.stage_results.headline`.
        latency: latency of the model at batch 1, if it was measured.
        seconds: wall time of the stage; if ``resumed``, since the last interruption.
        resumed: whether the stage was interrupted and resumed.
        note: the note of the stage.
        stale: why the stage no longer fits the settings; empty if it does.
    """

    stage: str
    model: ModelResult
    input_size: tuple[int, int]
    accuracy: dict[str, float]
    latency: ModelLatency | None
    seconds: float
    resumed: bool
    note: str
    stale: str


class Report(Result):
    """The results of a run.

    Attributes:
        name: name of the run.
        task: "person" or "face"; chooses the accuracy columns.
        distance: distance that the accuracy is measured by.
        protocol: protocol of the ranking.
        has_cameras: whether the data set has camera numbers.
        images: folder of the data set.
        rows: one for each stage that made a model, in order.
        iterations: reports of the cuts, see ``iteration.json`` of a cut.
        results: ``result`` of the finished stages, by stage. A stage that made no model is left out
            if it no longer fits the settings, because it measured other files.
        latency: the closing measurement, as in ``latency.json``.
        versions: versions of the libraries at the last stage.
        seed: seed of all random draws.
        schema_version: version of this layout.
    """

    name: str
    task: str
    distance: str
    protocol: str
    has_cameras: bool
    images: str
    rows: tuple[ReportRow, ...]
    iterations: tuple[IterationReport, ...]
    results: dict[str, SerializeAsAny[StageResult]]
    latency: Latencies | None
    versions: dict[str, str]
    seed: int
    schema_version: Literal[2] = SCHEMA_VERSION

    @property
    def measure(self) -> str:
        """Return the measure by which its models are compared."""
        if not self.rows:
            return "EER" if self.task == "face" else "mAP"
        return main_measure(self.rows[0].model.metrics, self.task)


def collect(config: Config, run: RunDir, *, shown: Config | None = None) -> Report:
    """Gather what the stages of a run left.

    Args:
        config: the run's settings, by which a stage may be stale.
        run: the run's folder.
        shown: other settings that choose the accuracy columns and their distance.
    """
    records, stale, latency = run.records(), stale_records(config, run), valid_latency(run)
    config = shown or config
    rows = [
        ReportRow(
            stage=name,
            model=record.result.model,
            input_size=record.input_size,
            accuracy=headline(record.result.model.metrics, config.evaluation.distance),
            latency=None if latency is None else latency.of(name),
            seconds=record.seconds,
            resumed=record.resumed,
            note=record.result.note,
            stale=stale.get(name, ""),
        )
        for name, record in records.items()
        if record.result.model is not None
    ]
    metrics = [row.model.metrics for row in rows]
    return Report(
        name=config.name,
        task=config.evaluation.task,
        distance=config.evaluation.distance,
        protocol=next(
            (one.ranking[config.evaluation.distance].protocol for one in metrics if one.ranking),
            "market1501",
        ),
        has_cameras=all(one.has_cameras for one in metrics),
        images=str(config.data.root) if config.data.root else "synthetic pedestrians",
        rows=tuple(rows),
        iterations=tuple(iteration_reports(run)),
        results={
            name: record.result
            for name, record in records.items()
            if name not in stale or record.result.model is not None
        },
        latency=latency,
        versions=list(records.values())[-1].versions if records else {},
        seed=config.seed,
    )


def write_report(run: RunDir, report: Report) -> None:
    """Write ``report.json``."""
    write_bytes(run.path / REPORT_JSON, report.to_json())


def iteration_reports(run: RunDir) -> list[IterationReport]:
    """Read the finished cuts of a run: of every stage that cuts, in order."""
    found: list[Path] = []
    for stage in run.stages.cutting:
        paths = run.stage_dir(stage).glob("iteration_*/iteration.json")
        found += sorted((path for path in paths if _number(path)), key=_number)
    reports = []
    for path in found:
        try:
            reports.append(read_report(path))
        except PruneError as error:
            logger.warning("%s; the report leaves it out", one_line(error))
    return reports


def _number(path: Path) -> int:
    """Return which cut a report is of, or 0 if its folder is none of ours."""
    number = path.parent.name.removeprefix("iteration_")
    return int(number) if number.isdecimal() else 0
