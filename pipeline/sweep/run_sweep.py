"""The work of one worker of a sweep, and the table and page at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from pipeline.report.comparison import compare_runs, read_runs, write_comparison
from pipeline.run_api import read_run, run_pipeline
from pipeline.shipped_configs import find_config
from pipeline.sweep.study import LOCK, LOWER_IS_BETTER, SweepStudy, Trial
from pipeline.sweep.sweep_settings import SweepSettings, Value, checked_values, trial_config
from reid_edge.core.errors import PipelineError, ReidError, one_line, reason_of
from reid_edge.core.io import write_bytes, write_json
from reid_edge.core.packages import import_package
from reid_edge.core.tables import FittingTable, output_console

SETTINGS, BASE, TABLE, PAGE = "sweep.json", "config.json", "trials.json", "comparison.html"
# Settings that another start of the same sweep may have.
MAY_CHANGE = {"trials"}
POLL_SECONDS = 2.0
BEST_OF_MANY = (
    "All trials are measured on the same query and gallery, so the best one's figure is too good; "
    "measure it on other persons."
)

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
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
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
    with study.locked():
        return _show(sweep, study.trials())


def run_folder(sweep: SweepSettings, trial: Trial) -> Path:
    """Return the run folder of a trial."""
    return sweep.folder / f"trial-{trial.number:04d}"


def _keep_settings(folder: Path, sweep: SweepSettings) -> None:
    """Write the settings of a new sweep, or check that they are those of the one in the folder.

    Raises:
        PipelineError: they are others, or the folder holds something else.
    """
    path, base = folder / SETTINGS, folder / BASE
    # With values that fit each other; they are those of the first start, as the parameters are.
    resolved = trial_config(sweep, checked_values(sweep)[0]).model_dump_json(indent=2)
    wanted = SweepSettings.model_validate(sweep.model_dump()).model_dump_json(
        indent=2, exclude={"folder"}
    )
    if path.is_file():
        try:
            former = SweepSettings.model_validate_json(path.read_text())
        except ValueError as error:
            raise PipelineError(
                f"{path}: damaged, or of an earlier version; choose another folder"
            ) from error
        new = SweepSettings.model_validate_json(wanted)
        for name in SweepSettings.model_fields:
            if name not in {*MAY_CHANGE, "folder"} and getattr(former, name) != getattr(new, name):
                raise PipelineError(
                    f"{folder}: holds a sweep with another {name}; choose another folder"
                )
        if base.is_file() and base.read_text() != resolved:
            raise PipelineError(
                f"{sweep.config}: has changed since the first trial of {folder}, and trials of two "
                "configurations cannot be compared; choose another folder"
            )
    elif any(entry.name != LOCK for entry in folder.iterdir()):
        raise PipelineError(f"{folder}: holds files, but no sweep; choose another folder")
    write_bytes(base, resolved.encode())
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
    except Exception as error:
        # A trial without memory, for one, ends by itself; the others run on.
        reason = one_line(error) if isinstance(error, ReidError) else reason_of(error)
        logger.error("trial %d failed: %s", trial.number + 1, reason)
        logger.debug("trial %d", trial.number + 1, exc_info=error)
        study.fail(trial, reason)
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
    if len(rows) > 1:
        console.print(BEST_OF_MANY)
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
