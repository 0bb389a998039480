"""NNI for real: its manager, its dispatcher, a trial that takes no time."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from prune.search.experiment import run_search
from prune.search.history import Answered, finished_trials, read_events
from prune.search.job import Job
from reid_edge.core.errors import PruneError

TOY = Path(__file__).with_name("toy_trial.py")
PATIENCE = 240.0

RUN = """
import sys
from prune.search.experiment import run_search
from prune.search.job import Job
run_search(Job.from_json(sys.stdin.read()))
"""


def make_job(folder: Path, trials: int) -> Job:
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOY, code)
    return Job(
        folder=folder,
        code=code,
        module="toy_trial",
        variables=("a", "b"),
        low=0.1,
        high=1.0,
        step=0.1,
        start={"a": 0.5, "b": 0.5},
        seed=1,
        trials=trials,
    )


def start(job: Job, **environment: str) -> "subprocess.Popen[str]":
    """Start a search in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stdin is not None
    process.stdin.write(job.to_json())
    process.stdin.close()
    return process


def wait_for(condition: "Iterator[bool]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not next(condition):
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.2)


def answered(job: Job, count: int) -> Iterator[bool]:
    while True:
        yield len([e for e in read_events(job.history) if isinstance(e, Answered)]) >= count


def gone(processes: list[psutil.Process]) -> Iterator[bool]:
    while True:
        yield not any(one.is_running() and one.status() != "zombie" for one in processes)


def listening(processes: list[psutil.Process]) -> set[str]:
    """Return the addresses on which processes listen."""
    return {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_without_node_the_search_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nni_node", None)
    with pytest.raises(PruneError) as caught:
        run_search(make_job(tmp_path / "search", 1))
    assert str(caught.value) == (
        "the search needs NNI's Node, which is not installed: pip install --force-reinstall "
        "--no-deps nni==3.0 (on x86-64; NNI has none for other machines)"
    )
    assert not (tmp_path / "search" / "manager.log").exists()


@pytest.mark.slow
def test_a_search_that_is_killed_leaves_nothing_running_and_resumes(tmp_path: Path) -> None:
    job = make_job(tmp_path / "killed", trials=3)
    process = start(job)
    wait_for(answered(job, 1))
    family = psutil.Process(process.pid).children(recursive=True)
    assert listening(family) == {"127.0.0.1"}
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(gone(family))
    before = finished_trials(read_events(job.history))
    assert len(before) < 3

    seen: list[int] = []
    trials = run_search(job, lambda trial: seen.append(trial.number))
    assert trials[: len(before)] == before
    assert seen == [trial.number for trial in trials] == [0, 1, 2]
    assert trials[0].sample == {"a": 0.5, "b": 0.5}
    for trial in trials:
        distance = (trial.sample["a"] - 0.8) ** 2 + (trial.sample["b"] - 0.4) ** 2
        assert trial.score == pytest.approx(1 - distance)
    # What is finished is not searched again: no process is started.
    assert run_search(job) == trials
    assert (job.folder / "home" / "nni-experiments" / ".experiment").is_file()


@pytest.mark.slow
def test_a_trial_that_fails_stops_the_search_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAILS_ABOVE", "0.1")
    job = make_job(tmp_path, trials=2)
    with pytest.raises(PruneError, match="a trial failed: ValueError: a is too large"):
        run_search(job)
    assert finished_trials(read_events(job.history)) == []
