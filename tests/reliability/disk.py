"""A disk that is full, broken, read-only or gone, and two commands in one folder."""

import errno
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.commands import Command
from tests.reliability.contents import compare, contents
from tests.reliability.faults import ANY, Fault
from tests.reliability.kills import OPERATIONS
from tests.reliability.processes import Ended, run, start, wait

MEGABYTES = (1, 2, 3, 5, 7, 9)
IN_USE = "in use by process"


@dataclass
class Trial:
    """Commands under one kind of fault.

    Attributes:
        name: of the fault.
        tried: how many commands met it.
        refused: how many of them ended with exit code 2 and one line.
        complaints: what was wrong with the others, or with the folder afterwards.
    """

    name: str
    tried: int = 0
    refused: int = 0
    complaints: list[str] = field(default_factory=list)

    def note(self, ended: Ended, *, may_succeed: bool = True) -> None:
        """Count a command that met the fault."""
        self.tried += 1
        self.refused += ended.code == 2
        if ended.complaint:
            self.complaints.append(ended.complaint)
        elif ended.code == 0 and not may_succeed:
            self.complaints.append("exit code 0 in spite of the fault")

    def check(self, expected: dict[str, str], target: Path) -> None:
        """Compare a folder with that of a command that met no fault."""
        differ, left_over = compare(expected, contents(target))
        self.complaints += [f"{name}: differs" for name in differ]
        self.complaints += [f"{name}: left over" for name in left_over]


def broken_disk(
    command: Command, expected: dict[str, str], times: int, seed: int, folder: Path
) -> Trial:
    """Let an operation fail with an input/output error or a full disk, once or from then on."""
    trial, rng, target = Trial("EIO and ENOSPC"), random.Random(seed), folder / "broken"
    shutil.rmtree(target, ignore_errors=True)
    while trial.tried < times:
        fault = Fault(
            ANY,
            round((2 * OPERATIONS) ** rng.random()),
            rng.choice(["fail once", "fail from then on"]),
            rng.choice([errno.EIO, errno.ENOSPC]),
        )
        ended = run(command.main, command.fill(target), target, folder / "disk.log", fault)
        if ended.fault:
            trial.note(ended)
            if ended.complaint:
                trial.complaints[-1] += f" [{fault}: {ended.fault}]"
        if ended.code == 0:
            trial.check(expected, target)
            shutil.rmtree(target)
    return _finished(trial, command, expected, target, folder)


def full_disk(command: Command, expected: dict[str, str], folder: Path) -> Trial:
    """Run on a small file system that grows a little every time that it is full."""
    trial = Trial("full file system")
    with _mounted(folder / "small", MEGABYTES[0]) as mount:
        target = mount / "run"
        for size in MEGABYTES:
            subprocess.run(["mount", "-o", f"remount,size={size}m", str(mount)], check=True)
            ended = run(command.main, command.fill(target), target, folder / "disk.log")
            trial.note(ended)
        subprocess.run(["mount", "-o", "remount,size=512m", str(mount)], check=True)
        return _finished(trial, command, expected, target, folder)


def read_only(command: Command, finished: Path, folder: Path) -> Trial:
    """Run on a file system that nobody may write to: with nothing there, and half a run."""
    trial = Trial("read-only file system")
    with _mounted(folder / "readonly", 64) as mount:
        shutil.copytree(finished, mount / "half")
        for stage in (mount / "half").glob("[f-z]*/stage.json"):
            stage.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        for name in ("new", "half"):
            target = mount / name
            ended = run(command.main, command.fill(target), target, folder / "disk.log")
            trial.note(ended, may_succeed=False)
    return trial


def deleted_folder(
    command: Command, expected: dict[str, str], times: int, seed: int, folder: Path
) -> Trial:
    """Delete a command's folder while it runs."""
    trial, rng, target = Trial("deleted folder"), random.Random(seed), folder / "deleted"
    log = folder / "disk.log"
    for _ in range(times):
        process = start(command.main, command.fill(target), log)
        time.sleep(rng.uniform(0.5, 6.0))
        shutil.rmtree(target, ignore_errors=True)
        trial.note(wait(process, log))
        shutil.rmtree(target, ignore_errors=True)
    return _finished(trial, command, expected, target, folder)


def two_at_once(
    command: Command, expected: dict[str, str], times: int, seed: int, folder: Path
) -> Trial:
    """Start a second command in the folder of one that runs; the second is refused."""
    trial, rng, target = Trial("two at once"), random.Random(seed), folder / "shared"
    shutil.rmtree(target, ignore_errors=True)
    first_log, log = folder / "first.log", folder / "disk.log"
    first = start(command.main, command.fill(target), first_log)
    while not (target / "lock.owner").exists():
        time.sleep(0.01)
    for _ in range(times):
        time.sleep(rng.uniform(0.0, 1.0))
        ended = run(command.main, command.fill(target), target, log)
        trial.note(ended, may_succeed=False)
        if IN_USE not in ended.text:
            trial.complaints.append(f"not refused as in use: {ended.text.strip()[-200:]}")
    ended = wait(first, first_log)
    if ended.code != 0:
        trial.complaints.append(f"the first command failed: {ended.text.strip()[-200:]}")
    trial.check(expected, target)
    return trial


def _finished(
    trial: Trial, command: Command, expected: dict[str, str], target: Path, folder: Path
) -> Trial:
    """Run the command without a fault, and compare."""
    ended = run(command.main, command.fill(target), target, folder / "disk.log")
    if ended.code != 0:
        trial.complaints.append(f"cannot be finished: {ended.text.strip()[-300:]}")
    trial.check(expected, target)
    return trial


@contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory; the harness has a mount namespace of its own."""
    folder.mkdir(exist_ok=True)
    options = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
