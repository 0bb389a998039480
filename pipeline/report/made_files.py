"""Every file that a run made: size, agreement, latency, what it is for, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.accuracy import percent
from pipeline.report.benchmark_section import threads_text
from pipeline.report.contents import Report
from pipeline.report.stage_bars import shown_distance
from pipeline.report.text import size
from pipeline.stage_results import BenchmarkResult, BenchmarkRow, StageRecord, main_value
from reid_edge.core.backends import recognise
from reid_edge.core.errors import ReidError
from reid_edge.metrics.results import Evaluation

SNIPPET = """import reid_edge

embedder = reid_edge.Embedder({path!r}, threads=1)
features = embedder(frame, boxes)  # frame: uint8 BGR (H, W, 3); boxes: (N, 4)"""


@dataclass(frozen=True)
class MadeFile:
    """A file in the page.

    Attributes:
        path: below the run's folder.
        meant_for: machine or program that it is made for.
        size: in words.
        cosine: mean and lowest cosine to its model, in words; "-" if it is a model itself.
        accuracy: mAP, EER or likeness to the teacher, in words.
        latency: with batch and threads, in words.
        fits: "yes", or the limits that it exceeds.
        snippet: code that loads it; empty if this program does not run it.
    """

    path: str
    meant_for: str
    size: str
    cosine: str
    accuracy: str
    latency: str
    fits: str
    snippet: str


def made_files(run: Path, report: Report, records: Mapping[str, StageRecord]) -> list[MadeFile]:
    """Return the files of all stages with a result, in order.

    Args:
        run: the run's folder.
        report: of the run.
        records: of the stages with a result in the report.
    """
    timed: dict[str, BenchmarkRow] = {}
    if "benchmark" in records:
        rows = records["benchmark"].result_as(BenchmarkResult).benchmark.rows
        timed = {row.name: row for row in rows}

    def accuracy(metrics: Evaluation | None) -> str:
        if metrics is None:
            return "-"
        return percent(main_value(metrics, report.task, shown_distance(report)))

    found: dict[str, MadeFile] = {}
    latencies = {row.stage: row.latency for row in report.rows}
    for stage, record in records.items():
        model = record.result.model
        if model is not None:
            latency = latencies.get(stage)
            threads = report.latency.threads if report.latency is not None else 1
            closing = f"{latency.median_ms:.1f} ms, {threads_text(threads)}" if latency else "-"
            found[model.file] = MadeFile(
                path=model.file,
                meant_for=_purpose(run / model.file, timed.get(model.file)),
                size=size(model.bytes),
                cosine="-",
                accuracy=accuracy(model.metrics),
                latency=_latency(timed.get(model.file)) or closing,
                fits="yes",
                snippet=_snippet(run / model.file),
            )
        for file in record.result.files:
            path = file.path or file.name
            own = f"{file.latency_ms:.1f} ms, 1 thread" if file.latency_ms is not None else "-"
            parity = file.parity
            # A file that a later stage compares with its model is told of once.
            found[path] = MadeFile(
                path=path,
                meant_for=file.meant_for or _purpose(run / path, timed.get(path)),
                size=size(file.bytes),
                cosine=(
                    f"{parity.mean_cosine:.4f} (lowest {parity.lowest_cosine:.4f})"
                    if parity is not None
                    else "-"
                ),
                accuracy=accuracy(file.metrics),
                latency=_latency(timed.get(path)) or own,
                fits="; ".join(file.problems) or "yes",
                snippet="" if file.problems else _snippet(run / path),
            )
    return list(found.values())


def _latency(row: BenchmarkRow | None) -> str:
    if row is None or not row.timings:
        return ""
    timing = row.timings[0]
    return f"{timing.median_ms:.1f} ms, {threads_text(timing.threads)}"


def _purpose(path: Path, row: BenchmarkRow | None) -> str:
    if row is not None:
        return row.meant_for
    try:
        return recognise(path).meant_for
    except (ReidError, OSError):
        return ""


def _snippet(path: Path) -> str:
    """Return the code that loads a file, if this program runs files of its kind."""
    try:
        recognise(path)
    except (ReidError, OSError):
        return ""
    return SNIPPET.format(path=str(path)) if path.exists() else ""
