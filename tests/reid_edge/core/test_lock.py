"""One process at a time."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError, ReidError
from reid_edge.core.lock import locked

PROGRAM = "import os, sys, time; from pathlib import Path; from reid_edge.core.lock import locked\n"


def run(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program, str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    program = "with locked(Path(sys.argv[1]), 'stop it'): print('in')"
    with locked(tmp_path / "lock"):
        refused = run(tmp_path / "lock", program)
    assert f"ReidError: {tmp_path}: in use by process {os.getpid()}; stop it" in refused.stderr
    assert run(tmp_path / "lock", program).stdout == "in\n"


def test_without_an_advice_the_other_process_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "with locked(Path(sys.argv[1])):\n"
        "    print('in', flush=True)\n"
        "    time.sleep(1)\n"
        "    Path(sys.argv[1]).with_name('done').touch()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program, str(tmp_path / "lock")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with caplog.at_level(logging.INFO), locked(tmp_path / "lock"):
            assert (tmp_path / "done").exists()
    assert f"{tmp_path}: waits for process {other.pid}" in caplog.messages


def test_the_lock_of_a_killed_process_is_waited_for(tmp_path: Path) -> None:
    # A child that inherited the lock outlives its parent for a moment, as loading workers do.
    program = (
        "with locked(Path(sys.argv[1]), 'stop it'):\n"
        "    if os.fork(): os._exit(0)\n"
        "    time.sleep(2)\n"
    )
    assert run(tmp_path / "lock", program).returncode == 0
    with locked(tmp_path / "lock", "stop it"):
        assert (tmp_path / "lock.owner").read_text() == str(os.getpid())


def test_orphans_are_not_waited_for_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_edge.core.lock.ORPHAN_SECONDS", 0.3)
    with locked(tmp_path / "lock"):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "lock.owner").write_text(str(gone.pid))
        message = f"in use by process {gone.pid}; wait"
        with (
            pytest.raises(DataError, match=message),
            locked(tmp_path / "lock", "wait", error=DataError),
        ):
            pass


def test_the_lock_is_lifted_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", "stop it"):
        pass


def test_a_folder_that_is_none_or_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "lock"
    message = r"file/lock: cannot be locked \(.*\); make the folder writable, or take another"
    with pytest.raises(ReidError, match=message), locked(place):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("reid_edge.core.lock.FileLock.acquire", refuse)
    with (
        pytest.raises(ReidError, match=r"cannot be locked \(Permission denied\)"),
        locked(tmp_path / "lock"),
    ):
        pass
