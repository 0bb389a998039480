"""A signal to all processes of a command ends it within seconds, with one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import sys, threading, time
from multiprocessing import get_context
from reid_edge.cli import interruption
from reid_edge.cli.guard import Guard

def act():
    {action}

if __name__ == "__mp_main__":
    time.sleep({start})
if __name__ == "__main__":
    sys.exit(Guard(interrupted="interrupted; again").run(act))
"""
SLEEP = "print('ready', flush=True); time.sleep(60)"
STUBBORN = """interruption.GRACE_SECONDS = 1
    try:
        print('ready', flush=True)
        time.sleep(60)
    finally:
        time.sleep(60)"""
WITH_A_PROCESS = """process = get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    print('ready', flush=True)
    process.join()"""
# What a process is given does not fit into the pipe: its start takes as long as its imports.
HALF_STARTED = """threading.Timer(0.5, lambda: print('ready', flush=True)).start()
    get_context("spawn").Process(target=time.sleep, args=(60, bytes(2**20))).start()"""
DIES_WITH_ANOTHER = """process = get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    print('ready', flush=True)
    process.join()
    raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")"""


def end(
    action: str,
    number: signal.Signals,
    tmp_path: Path,
    times: int = 2,
    start: float = 0,
    to_group: bool = True,
) -> tuple[int, str]:
    program = tmp_path / "command.py"
    program.write_text(COMMAND.format(action=action, start=start))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(times):  # ``timeout`` sends it to the process and to the group
            (os.killpg if to_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=50)
    finally:
        process.kill()
    return process.returncode, errors.decode()


@pytest.mark.parametrize(
    ("action", "number", "code"),
    [
        (SLEEP, signal.SIGINT, 130),
        (SLEEP, signal.SIGTERM, 143),
        (STUBBORN, signal.SIGTERM, 143),
        (WITH_A_PROCESS, signal.SIGTERM, 143),
        (DIES_WITH_ANOTHER, signal.SIGTERM, 143),
    ],
)
def test_a_signal_to_the_group(
    action: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    assert end(action, number, tmp_path) == (code, "interrupted; again\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_group", [True, False])
def test_a_process_that_is_being_started(
    number: signal.Signals, code: int, to_group: bool, tmp_path: Path
) -> None:
    """It says nothing, and does not outlive the command."""
    ended = end(HALF_STARTED, number, tmp_path, times=1, start=20, to_group=to_group)
    assert ended == (code, "interrupted; again\n")
