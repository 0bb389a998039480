"""Stages that are run, shown and sent to trackers as they go on, and their report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.engine import run_stages
from pipeline.report.live_page import live_page
from pipeline.report.show import report_text, write_results
from pipeline.run_log import PACKAGES, log_file
from pipeline.trackers import tracking
from reid_edge.cli.progress_bars import progress_bars

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import Plan
    from pipeline.report.contents import Report
    from pipeline.run_dir import RunDir
    from reid_edge.data.schema import ReidData
    from reid_edge.training.world import World


@contextmanager
def at_work(run: RunDir, command: Sequence[str] | None = None) -> Iterator[None]:
    """Make the folder of a run, hold its lock, and write everything that is logged into it.

    Args:
        run: the run's folder.
        command: for the first line of the log file; none: that of this process.
    """
    run.create()
    with run.locked(), log_file(run.path, PACKAGES, sys.argv if command is None else command):
        yield


def run_followed(
    config: Config,
    run: RunDir,
    *,
    restart_from: str | None = None,
    world: World | None = None,
    planned: Callable[[Plan, ReidData, str], None] = lambda *_: None,
    at: Callable[[str], None] = lambda _: None,
    headline: Callable[[], str] | None = None,
    quiet: bool = False,
    finished: Callable[[RunDir, Report], None] = lambda *_: None,
) -> Report:
    """Run stages, and write what they come to; the caller has entered :func:`at_work`.

    Args:
        config: all settings.
        run: the run's folder.
        restart_from: see :func:`pipeline.engine.run_stages`, like the next two.
        world: the processes that train together.
        planned: is called before the first stage.
        at: is called with the stage that runs, when it begins and when it has something to show.
        headline: see :func:`reid_edge.cli.progress_bars.progress_bars`, like the next one.
        quiet: show no progress.
        finished: is called with the report before it is sent to the trackers.

    Returns:
        The results of the run.
    """
    with tracking(config, run) as tracked:
        with progress_bars(headline, quiet=quiet) as work, live_page(config, run) as show:

            def progress(stage: str) -> None:
                at(stage)
                show(stage)
                tracked.epochs()

            run_stages(
                config,
                run,
                restart_from=restart_from,
                progress=progress,
                planned=planned,
                work=work,
                world=world,
            )
        report = write_results(config, run)
        finished(run, report)
        tracked.results(report, report_text(run, report))
    return report
