"""The work of one worker of a sweep, and the table and page at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.report.comparison import compare_runs, read_runs, write_comparison
from pipeline.run_api import read_run, run_pipeline
from pipeline.shipped_configs import find_config
from pipeline.sweep.study import LOWER_IS_BETTER, SweepStudy, Trial
from pipeline.sweep.sweep_settings import SweepSettings, Value
from reid_edge.core.errors import PipelineError, ReidError, one_line
from reid_edge.core.io import write_bytes, write_json
from reid_edge.core.packages import import_package
from reid_edge.core.tables import FittingTable, output_console

SETTINGS, TABLE, PAGE = "sweep.json", "trials.json", "comparison.html"
# Settings that another start of the same sweep may have.
MAY_CHANGE = {"trials"}
POLL_SECONDS = 2.0

logger = logging.getLogger(__name__)


def run_sweep(sweep: SweepSettings) -> int:
    """Take trials until all are done, and show them.

    A worker that finds no trial left waits for those of others, and takes over a trial whose
    worker died. The last one writes the table and the page.

    Returns:
        The number of trials that failed.

    Raises:
        PipelineError: the folder is that of another sweep, Optuna is not installed, or the measure
            is not there.
    """
    folder = sweep.folder
    # Before anything is written.
    import_package("optuna", extra="sweep", needed_by="reid-edge sweep", error=PipelineError)
    _keep_settings(folder, sweep)
    study = SweepStudy(folder, sweep)
    waits = False
    while True:
        with study.take() as trial:
            if trial is not None:
                _run_trial(study, sweep, trial)
                continue
        running = [one for one in study.trials() if one.state == "running"]
        if not running:
            break
        if not waits:
            logger.info("no trial left; waits for %d of other workers", len(running))
            waits = True
        time.sleep(POLL_SECONDS)
    return _show(sweep, study.trials())


def run_folder(sweep: SweepSettings, trial: Trial) -> Path:
    """Return the run folder of a trial."""
    return sweep.folder / f"trial-{trial.number:04d}"


def _keep_settings(folder: Path, sweep: SweepSettings) -> None:
    """Write the settings of a new sweep, or check that they are those of the one in the folder.

    Raises:
        PipelineError: they are others, or the folder holds something else.
    """
    path = folder / SETTINGS
    wanted = SweepSettings.model_validate(sweep.model_dump()).model_dump_json(
        indent=2, exclude={"folder"}
    )
    if path.is_file():
        former = SweepSettings.model_validate_json(path.read_text())
        new = SweepSettings.model_validate_json(wanted)
        for name in SweepSettings.model_fields:
            if name not in {*MAY_CHANGE, "folder"} and getattr(former, name) != getattr(new, name):
                raise PipelineError(
                    f"{folder}: holds a sweep with another {name}; choose another folder"
                )
    elif folder.is_dir() and any(folder.iterdir()):
        raise PipelineError(f"{folder}: holds files, but no sweep; choose another folder")
    write_bytes(path, f"{wanted}\n".encode())


def _run_trial(study: SweepStudy, sweep: SweepSettings, trial: Trial) -> None:
    shown = ", ".join(f"{name}={value}" for name, value in trial.values.items())
    logger.info("trial %d of %d: %s", trial.number + 1, sweep.count, shown)
    try:
        run_pipeline(
            find_config(Path(sweep.config)),
            stages=sweep.stages,
            settings={**sweep.settings, **trial.values},
            run=run_folder(sweep, trial),
        )
        measured = _measured(sweep, trial)
    except ReidError as error:
        logger.error("trial %d failed: %s", trial.number + 1, one_line(error))
        study.fail(trial, one_line(error))
        return
    study.finish(trial, measured)
    logger.info("trial %d of %d: %s %.4f", trial.number + 1, sweep.count, sweep.measure, measured)


def _measured(sweep: SweepSettings, trial: Trial) -> float:
    """Return what is compared of a finished run.

    Raises:
        PipelineError: the run has no such stage or measure.
    """
    rows = read_run(run_folder(sweep, trial)).rows
    found = [row for row in rows if sweep.stage in (None, row.stage)]
    if not found:
        raise PipelineError(f"stage: no stage {sweep.stage!r} made a model")
    accuracy = found[-1].accuracy
    if sweep.measure not in accuracy:
        raise PipelineError(
            f"measure: no {sweep.measure!r} was measured; there are {', '.join(accuracy)}"
        )
    return accuracy[sweep.measure]


def _show(sweep: SweepSettings, trials: Sequence[Trial]) -> int:
    """Write and print the table of trials, the best first, and the page; count the failed ones."""
    sign = 1 if sweep.measure in LOWER_IS_BETTER else -1
    worst = float("inf")
    ordered = sorted(trials, key=lambda one: worst if one.measured is None else sign * one.measured)
    write_json(
        sweep.folder / TABLE,
        [{**asdict(one), "run": run_folder(sweep, one).name} for one in ordered],
    )
    names = list(sweep.parameters)
    rows = [
        (
            run_folder(sweep, one).name,
            _text(one.measured),
            *(_text(one.values.get(n)) for n in names),
        )
        for one in ordered
    ]
    console = output_console()
    console.print(FittingTable("Trials", ["run", sweep.measure, *names], rows, breaking=names))
    finished = [run_folder(sweep, one) for one in ordered if one.measured is not None]
    if len(finished) > 1:
        page = sweep.folder / PAGE
        write_comparison(page, compare_runs(read_runs(finished)))
        console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
    failed = [one for one in ordered if one.state == "fail"]
    for one in failed:
        name = run_folder(sweep, one).name
        console.print(f"{name} failed: {one.reason}", markup=False, highlight=False, soft_wrap=True)
    return len(failed)


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
