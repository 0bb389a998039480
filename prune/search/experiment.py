"""A search: start the manager process, report its trials, and stop it."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import prune
from prune.search.history import Trial, finished_trials, read_events
from prune.search.job import Job
from prune.search.manager import ERROR_MARK
from reid_edge.core.errors import PruneError
from reid_edge.core.packages import missing_packages

POLL_SECONDS = 0.5
STOP_SECONDS = 60.0

logger = logging.getLogger(__name__)


def run_search(job: Job, on_trial: Callable[[Trial], None] | None = None) -> list[Trial]:
    """Search, or resume a search that was stopped.

    NNI's TPE tuner proposes samples, and trials score them. ``job.history`` records both. An
    interrupted search resumes from it and ends with the samples of an uninterrupted one. NNI's
    servers listen on the loopback interface alone.

    Args:
        job: what to search.
        on_trial: called with each scored sample, those of earlier runs first.

    Returns:
        All scored samples, in the order in which they were handed out.

    Raises:
        PruneError: a trial failed, a machine cannot be used, NNI did not do what was asked, or its
            Node is not installed.
    """
    check_node()
    job.folder.mkdir(parents=True, exist_ok=True)
    known = _report([], job, on_trial)
    if len(known) < job.trials:
        log = job.folder / "manager.log"
        with log.open("wb") as output, _manager(job, output.fileno()) as manager:
            while manager.poll() is None:
                time.sleep(POLL_SECONDS)
                known = _report(known, job, on_trial)
        known = _report(known, job, on_trial)
        if manager.returncode != 0 or len(known) < job.trials:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [
                line.removeprefix(ERROR_MARK) for line in lines if line.startswith(ERROR_MARK)
            ]
            ended = f"the search ended before all trials were scored; {log} says more"
            raise PruneError(errors[-1] if errors else ended)
    return known[: job.trials]


def check_node() -> None:
    """Check that NNI's Node is there, which its manager runs on; pruning does without it.

    Raises:
        PruneError: it is not.
    """
    if missing_packages(("nni_node",)):
        raise PruneError(
            "the search needs NNI's Node, which is not installed: pip install --force-reinstall "
            "--no-deps nni==3.0 (on x86-64; NNI has none for other machines)"
        )


def _report(known: list[Trial], job: Job, on_trial: Callable[[Trial], None] | None) -> list[Trial]:
    trials = finished_trials(read_events(job.history))
    numbers = {trial.number for trial in known}
    for trial in trials:
        if on_trial is not None and trial.number not in numbers:
            on_trial(trial)
    return trials


@contextmanager
def _manager(job: Job, output: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the manager process; end it at the end of the block, if it still runs."""
    root = Path(prune.__file__).resolve().parent.parent
    home = job.folder / "home"
    home.mkdir(exist_ok=True)
    preload = Path(__file__).with_name("preload.js")
    environment = os.environ | {
        "HOME": str(home),  # NNI keeps a list of all experiments there
        "NODE_OPTIONS": f'--require "{preload}"',
    }
    manager = subprocess.Popen(
        [sys.executable, "-m", "prune.search.manager"],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env=environment,
        cwd=root,
        start_new_session=True,  # Ctrl-C reaches only this process, which stops the manager
    )
    assert manager.stdin is not None
    try:
        manager.stdin.write(job.to_json().encode())
        manager.stdin.close()
        yield manager
    finally:
        if manager.poll() is None:
            manager.terminate()
            try:
                manager.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                manager.kill()
                manager.wait()
