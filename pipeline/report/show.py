"""What the commands print."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pipeline.config import Config
from pipeline.images import read_existing_images, split_validation
from pipeline.latency import measure_run
from pipeline.plan import Plan
from pipeline.preflight import check_settings, checked_plan
from pipeline.report.accuracy import verification_table
from pipeline.report.benchmark import benchmark_footnotes, benchmark_table
from pipeline.report.files import files_table
from pipeline.report.page import REPORT_PAGE, write_page
from pipeline.report.story import collect, iteration_reports, write_story
from pipeline.report.tables import closing_table, footnotes, plan_table
from pipeline.run_dir import PLAN, RunDir
from pipeline.settings_io import load_config
from pipeline.widths import (
    cutting_stage,
    depends_on_weights,
    final_widths,
    full_width_model,
    schedule,
)
from prune.layers import layer_widths
from prune.plan_file import read_plan

WIDE = 150  # columns of the widest table; a pipe or a file has no width of its own


def show_plan(config: Config, run: RunDir, *, restart_from: str | None = None) -> None:
    """Print what would run and why, and the widths by iteration; run nothing.

    What the run would refuse is refused here with the same words.
    """
    run.check()
    check_settings(config)
    data, data_hash = read_existing_images(config, run)
    trained_on = split_validation(config, data)[0] if data is not None else None
    plan = checked_plan(config, run, trained_on, data_hash, restart_from)
    stage = cutting_stage(config)
    widths = _planned_widths(config, run, plan, stage) if stage is not None else None
    for table in plan_table(plan, widths):
        wide_console().print(table)
    if stage is not None and widths is None:
        wide_console().print(
            "The widths depend on the trained weights: --plan shows them once prune has begun.",
            highlight=False,
        )


def _planned_widths(
    config: Config, run: RunDir, plan: Plan, stage: str
) -> list[dict[str, int]] | None:
    """Return the widths by iteration, or None if only a trained model can tell."""
    source = full_width_model(config)
    if stage != "prune" or not depends_on_weights(config):
        return schedule(config, stage, source, final_widths(config, stage, source))
    written = run.stage_dir(stage) / PLAN
    anew = any(step.stage == stage and step.action == "run" for step in plan.steps)
    if anew or not written.is_file():
        return None
    return schedule(config, stage, source, {**layer_widths(source), **read_plan(written).widths})


def finish_run(config: Config, run: RunDir) -> None:
    """Measure latency, write the report and the page, print the closing table."""
    measure_run(config, run)
    story = collect(config, run)
    write_story(run, story)
    page = write_page(run, story)
    console = wide_console()
    _print_story(console, story)
    _print_path(console, f"run: {run.path}")
    _print_path(console, f"page: {page}")


def show_report(run: RunDir, overrides: Sequence[str] = ()) -> None:
    """Print the sparsity report of every iteration and the closing table.

    Args:
        run: the run's folder; it is only read.
        overrides: other settings than those of the run, such as the distance of the columns.
    """
    console = wide_console()
    for report in iteration_reports(run):
        console.print(report.table())
        console.print(report.summary(), highlight=False)
        console.print()
    shown = load_config(run.config_path, overrides)
    story = collect(load_config(run.config_path), run, shown=shown)
    _print_story(console, story)
    page = run.path / REPORT_PAGE
    if page.is_file():
        _print_path(console, f"page: {page}")


def _print_story(console: Console, story: dict[str, Any]) -> None:
    console.print(closing_table(story))
    verification = verification_table(story) if story["task"] == "face" else None
    if verification is not None:
        console.print(verification)
    _print_lines(console, footnotes(story))
    if story["files"]:
        console.print(files_table(story))
    if story["benchmark"] is not None:
        console.print(benchmark_table(story["benchmark"]))
        _print_lines(console, benchmark_footnotes(story["benchmark"]))


def _print_lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, style="dim")


def _print_path(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def wide_console() -> Console:
    """Return a console that does not squeeze tables when it writes into a pipe or a file."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDE))
