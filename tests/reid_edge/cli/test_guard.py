"""One line and one exit code for whatever goes wrong in a command."""

import logging
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from reid_edge.cli.guard import Guard, Parser, path_argument
from reid_edge.core.errors import DataError

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[3]
PRINTS = """
import sys
from reid_edge.cli.guard import Guard

def act():
    {action}

sys.exit(Guard().run(act))
"""


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.jpg: no image"), 2, "error: a.jpg: no image"),
        (DataError("Caught in worker\n  File x\na.jpg: no image"), 2, "error: a.jpg: no image"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied; ask"),
        (OSError("no device"), 2, "error: no device; ask"),
        (MemoryError(), 2, "error: out of memory; lower --batch-size"),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback "
                      "(most recent call last):\nRuntimeError: unable to allocate shared memory"
                      "(shm) for file </torch_1_2_0>: No space left on device (28)\n"), 2,
         "error: shared memory (/dev/shm) is full; give more of it (docker run --shm-size=2g), or "
         "--workers 0"),
        (RuntimeError("DataLoader worker (pid 7) is killed"), 2,
         "error: a process that loads images was killed, which happens where shared memory is "
         "small; give more of it (docker run --shm-size=2g), or --workers 0"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(1), 130, "interrupted"),
    ],
)  # fmt: skip
def test_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Guard(file_hint="ask").run(lambda: fail(error)) == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_the_code_is_the_action_s_own() -> None:
    assert Guard().run(lambda: 1) == 1
    assert Guard().run(lambda: None) == 0


def test_a_mistake_of_the_program_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        Guard().run(lambda: fail(KeyError("x")))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "action",
    [
        "print('short')",
        "print('long' * 100_000)",
        "from rich.console import Console; Console().print('x\\n' * 100_000)",
    ],
)
def test_nobody_reads_the_output(action: str, unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    program = PRINTS.format(action=action)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_pipe_to_another_process_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS.format(action="raise BrokenPipeError(32, 'Broken pipe')")],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: Broken pipe\n")


def test_log_lines_of_its_packages_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("toy_package.part")

    def log() -> None:
        logger.info("a line")

    assert Guard(packages=("toy_package",)).run(log) == 0
    assert capsys.readouterr().err.split() == ["INFO", "a", "line"]
    assert Guard(packages=("toy_package",), timestamps=True).run(log) == 0
    assert capsys.readouterr().err.startswith("[")


def test_a_parser_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        Parser(prog="x").parse_args(["--bad"])
    assert raised.value.code == 2
    assert capsys.readouterr() == ("", "error: unrecognized arguments: --bad; see --help\n")


def test_a_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert path_argument("~/a") == Path("/home/x/a")
    with pytest.raises(ArgumentTypeError, match="'~nobody-here' is the home of nobody here"):
        path_argument("~nobody-here/a")
