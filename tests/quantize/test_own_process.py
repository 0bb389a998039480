"""A function that fails, crashes or hangs in a process of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from quantize.own_process import run_apart
from reid_edge.core.errors import DataError, QuantizeError

pytestmark = pytest.mark.medium

LONG_S = 60.0


def add(first: int, second: int) -> int:
    return first + second


def refuse() -> None:
    raise DataError("a.jpg: cannot be decoded")


def fail() -> None:
    raise KeyError("weights\nand more")


def crash() -> None:
    sys.stderr.write("converting\nlayer 7 is not supported\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(noted: Path) -> None:
    """Start another process and wait for ever, as a converter's tool may."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    noted.with_name("partial").write_text(str(child.pid))
    noted.with_name("partial").rename(noted)
    child.wait()


def test_the_result_and_errors_of_this_project_come_back() -> None:
    assert run_apart(add, 2, 3, time_limit_s=LONG_S) == 5
    with pytest.raises(DataError, match=r"^a\.jpg: cannot be decoded$"):
        run_apart(refuse, time_limit_s=LONG_S)
    with pytest.raises(QuantizeError, match=r"^KeyError: 'weights.*and more'$"):
        run_apart(fail, time_limit_s=LONG_S)


def test_a_crash_is_one_line_with_what_was_printed_last() -> None:
    message = r"^its process crashed \(SIGSEGV\); it printed last: layer 7 is not supported$"
    with pytest.raises(QuantizeError, match=message):
        run_apart(crash, time_limit_s=LONG_S)


def leave_a_file(noted: Path) -> None:
    noted.write_text(tempfile.mkdtemp())
    os.kill(os.getpid(), signal.SIGKILL)


def test_temporary_files_of_what_crashes_are_removed(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"^its process crashed \(SIGKILL\)$"):
        run_apart(leave_a_file, tmp_path / "noted", time_limit_s=LONG_S)
    assert not Path((tmp_path / "noted").read_text()).exists()


def test_what_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    for limit in (2, 10, 60):  # a busy machine takes longer to start the processes
        with pytest.raises(QuantizeError, match=rf"^took more than {limit} s and was stopped$"):
            run_apart(hang, noted, time_limit_s=limit)
        if noted.exists():
            break
    child = int(noted.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended; nobody has asked for its exit code yet
            return
        time.sleep(0.05)
    pytest.fail("the process that it started still runs")
