"""What the commands print."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.closing_latency import measure_run
from pipeline.config import Config
from pipeline.preflight import check_settings, checked_plan, requested
from pipeline.report.accuracy import verification_table
from pipeline.report.contents import Report, collect, iteration_reports, write_report
from pipeline.report.page import REPORT_PAGE, write_page
from pipeline.report.tables import (
    closing_table,
    footnotes,
    image_counts,
    plan_table,
    time_lines,
)
from pipeline.run_dir import RunDir
from pipeline.run_images import read_existing_images, split_validation
from pipeline.settings_io import load_config
from pipeline.stage_results import StageRecord
from pipeline.time_estimate import estimate_times
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.core.tables import output_console


def show_plan(
    config: Config, run: RunDir, *, restart_from: str | None = None, layers: bool = False
) -> None:
    """Print what would run and why; nothing runs.

    All checks of a run are made, with the same messages.

    Args:
        config: of the run.
        run: its folder.
        restart_from: a stage that runs again, with those after it.
        layers: print the widths by iteration, too.
    """
    run.check()
    check_settings(config)
    with progress_bars() as work:
        data, data_hash = read_existing_images(config, run, work)
    trained_on = split_validation(config, data)[0] if data is not None else None
    plan = checked_plan(config, run, trained_on, data_hash, restart_from)
    details = [item for stage in requested(config) for item in stage.show_plan(config, run, plan)]
    shown = [item for item in details if layers or isinstance(item, str)]
    estimates = {}
    if trained_on is not None and plan.to_run:
        estimates = estimate_times(config, run, plan, trained_on, data_hash)
    lines = [] if trained_on is None else [image_counts(trained_on)]
    for item in (plan_table(plan, estimates), *lines, *shown, *time_lines(estimates)):
        output_console().print(item, markup=False, highlight=False)


def write_results(config: Config, run: RunDir) -> Report:
    """Measure latency, write ``report.json`` and the page, and return the report."""
    measure_run(config, run)
    report = collect(config, run)
    write_report(run, report)
    write_page(run, report, _shown_records(run, report))
    return report


def write_page_again(run: RunDir) -> Path:
    """Write the page of a run anew from what its folder holds; return its path."""
    report = collect(load_config(run.config_path, declared=run.stages), run)
    return write_page(run, report, _shown_records(run, report))


def print_results(run: RunDir, report: Report) -> None:
    """Print the closing table of a run, and where it is."""
    console = output_console()
    _print_report(console, run, report)
    _print_path(console, f"run: {run.path}")
    _print_path(console, f"page: {run.path / REPORT_PAGE}")


def report_text(run: RunDir, report: Report) -> str:
    """Return the tables of a run as plain text."""
    text = io.StringIO()
    _print_report(Console(file=text, soft_wrap=True), run, report)
    return text.getvalue()


def show_report(run: RunDir, overrides: Sequence[str] = (), *, layers: bool = False) -> None:
    """Print the sparsity report of every iteration and the closing table.

    Args:
        run: the run's folder; it is only read.
        overrides: other settings than those of the run, such as the distance of the columns.
        layers: print every layer of every iteration, too.
    """
    console = output_console()
    for iteration in iteration_reports(run):
        console.print(iteration.table() if layers else iteration.title)
        console.print(iteration.summary(), highlight=False)
        console.print()
    shown = load_config(run.config_path, overrides, declared=run.stages)
    config = load_config(run.config_path, declared=run.stages)
    _print_report(console, run, collect(config, run, shown=shown))
    page = run.path / REPORT_PAGE
    if page.is_file():
        _print_path(console, f"page: {page}")


def _print_report(console: Console, run: RunDir, report: Report) -> None:
    records = _shown_records(run, report)
    if report.rows:
        console.print(closing_table(report))
    else:
        _print_lines(console, [f"{run.path}: no stage of the run has made a model yet"])
    verification = verification_table(report) if report.task == "face" else None
    if verification is not None:
        console.print(verification)
    _print_lines(console, footnotes(run, report, records))
    for name, record in records.items():
        section = run.stages[name].report_section
        for table in section.tables(record):
            console.print(table)
        _print_lines(console, section.lines(record))


def _shown_records(run: RunDir, report: Report) -> dict[str, StageRecord]:
    """Return the records of the stages with a result in the report."""
    return {name: record for name, record in run.records().items() if name in report.results}


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, style="dim")


def _print_path(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
