"""Several runs side by side: their settings, stages and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.benchmark_section import threads_text
from pipeline.report.contents import Report, ReportRow, collect
from pipeline.report.page import render
from pipeline.report.pareto import Chart, chart_of
from pipeline.report.run_facts import settings_of
from pipeline.report.stage_bars import shown_distance
from pipeline.report.text import size
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.stage_results import BenchmarkResult, BenchmarkRow, main_measure, main_value
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_bytes

# Settings that say where a run is, and nothing of what it does.
PLACES = ("name", "stages")


@dataclass(frozen=True)
class ComparedRun:
    """A run among others.

    Attributes:
        name: of its folder, or its path if two folders have the same name.
        report: its results.
        settings: values of all settings as JSON, by full name.
        files: what its benchmark measured.
        cpu: of the machine that its files were timed on; empty if none were.
    """

    name: str
    report: Report
    settings: dict[str, str]
    files: tuple[BenchmarkRow, ...]
    cpu: str


@dataclass(frozen=True)
class ComparedRow:
    """A line of a table with one value a run.

    Attributes:
        name: of the line.
        values: one a run; "-" where a run has none.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        names: of the runs.
        measure: of the first run, see :func:`pipeline.stage_results.main_measure`.
        stages: models by stage: accuracy, size and latency of each run.
        settings: those that differ.
        chart: accuracy against latency of all files; None if no run has a benchmark.
        notes: what is not comparable, and how it was measured.
    """

    names: tuple[str, ...]
    measure: str
    stages: tuple[ComparedRow, ...]
    settings: tuple[ComparedRow, ...]
    chart: Chart | None
    notes: tuple[str, ...]


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Read runs to be compared; nothing is run or written.

    Args:
        paths: their folders.

    Raises:
        PipelineError: there are fewer than two, a folder is given twice or holds no run, or its
            settings cannot be read.
    """
    if len(paths) < 2:
        raise PipelineError("give two or more runs, such as: reid-edge compare runs/a runs/b")
    folders = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if path.resolve() in folders[:number]:
            raise PipelineError(f"{path}: given twice; name each run once")
    short = [path.resolve().name for path in paths]
    found = []
    for path, name in zip(paths, short, strict=True):
        run = RunDir(path)
        if not run.config_path.is_file():
            raise PipelineError(f"{path}: no run there (no config.yaml in it)")
        config = load_config(run.config_path, declared=run.stages)
        report = collect(config, run)
        result = report.results.get("benchmark")
        benchmark = result.benchmark if isinstance(result, BenchmarkResult) else None
        found.append(
            ComparedRun(
                name=name if short.count(name) == 1 else str(path),
                report=report,
                settings={setting.key: setting.value for setting in settings_of(config)},
                files=benchmark.rows if benchmark is not None else (),
                cpu=benchmark.machine.cpu if benchmark is not None else "",
            )
        )
    return found


def compare_runs(runs: Sequence[ComparedRun]) -> Comparison:
    """Put runs side by side.

    Args:
        runs: two or more.
    """
    stages = list(dict.fromkeys(row.stage for run in runs for row in run.report.rows))
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    values = {key: tuple(run.settings.get(key, "-") for run in runs) for key in keys}
    return Comparison(
        names=tuple(run.name for run in runs),
        measure=runs[0].report.measure,
        stages=tuple(
            ComparedRow(stage, tuple(_stage_text(run.report, stage) for run in runs))
            for stage in stages
        ),
        settings=tuple(
            ComparedRow(key, found)
            for key, found in values.items()
            if len(set(found)) > 1 and key not in PLACES
        ),
        chart=_chart(runs),
        notes=tuple(_notes(runs)),
    )


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a page of its own with runs side by side.

    Raises:
        PipelineError: it cannot be written.
    """
    text = render(
        "comparison.html.j2",
        (threads_text,),
        title=" and ".join(comparison.names),
        comparison=comparison,
    )
    try:
        write_bytes(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise PipelineError(
            f"{path}: cannot be written ({error.strerror}); choose another --output"
        ) from error


def _stage_text(report: Report, stage: str) -> str:
    row = next((row for row in report.rows if row.stage == stage), None)
    return "-" if row is None else ", ".join(_row_values(report, row))


def _row_values(report: Report, row: ReportRow) -> list[str]:
    value = main_value(row.model.metrics, report.task, shown_distance(report))
    parts = [f"{value:.1%}" if value is not None else "-", size(row.model.bytes)]
    if row.latency is not None:
        parts.append(f"{row.latency.median_ms:.1f} ms")
    return [*parts, "stale"] if row.stale else parts


def _chart(runs: Sequence[ComparedRun]) -> Chart | None:
    timed = [(run, row) for run in runs for row in run.files if row.timings]
    if not timed:
        return None
    timing = timed[0][1].timings[0]
    distance = shown_distance(runs[0].report)
    files = [
        (
            f"{run.name}: {row.name}",
            row.timings[0].median_ms,
            100 * (main_value(row.metrics, "person", distance) or 0),
        )
        for run, row in timed
        # Other batches and threads are no fair comparison.
        if (row.timings[0].batch, row.timings[0].threads) == (timing.batch, timing.threads)
    ]
    measure = main_measure(timed[0][1].metrics, "person")
    return chart_of(files, measure=measure, batch=timing.batch, threads=timing.threads)


def _notes(runs: Sequence[ComparedRun]) -> list[str]:
    notes = []
    images = {run.report.images for run in runs}
    if len(images) > 1:
        notes.append(f"accuracy is not comparable: the images differ ({', '.join(sorted(images))})")
    for what, found in (
        ("the measure", {run.report.measure for run in runs}),
        ("the distance", {run.report.distance for run in runs}),
        ("the protocol", {run.report.protocol for run in runs}),
    ):
        if len(found) > 1:
            notes.append(f"accuracy is not comparable: {what} differs ({', '.join(sorted(found))})")
    machines = {run.cpu for run in runs if run.cpu}
    machines |= {run.report.latency.machine.cpu for run in runs if run.report.latency is not None}
    if len(machines) > 1:
        notes.append(
            f"latency is not comparable: the machines differ ({', '.join(sorted(machines))})"
        )
    without = [run.name for run in runs if not run.files]
    if without:
        notes.append(
            f"no benchmark of files in {', '.join(without)}; --stages export,benchmark makes one"
        )
    return notes
