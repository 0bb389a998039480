"""Kills at random operations and moments, and what stays of the bits."""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.commands import Command
from tests.reliability.contents import compare, contents
from tests.reliability.faults import ANY, KINDS, Action, Fault
from tests.reliability.processes import Ended, run, start, wait

KILLS: tuple[Action, ...] = ("kill before", "kill after", "kill halfway")
# Operations of one command between its start and its death, at most: about those of one stage.
OPERATIONS = 160
SECONDS = 6.0
PROGRESS_EVERY = 10


@dataclass
class KillReport:
    """What a series of kills showed.

    Attributes:
        command: its name.
        kills: by the operation, or ``moment``.
        places: by the folder or file below the command's folder where the kill hit.
        completions: how often the command was finished and compared.
        differ: files that differ from those of a command that was never killed.
        left_over: files that such a command does not leave.
        complaints: what commands said that were not killed and did not succeed.
    """

    command: str
    kills: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    completions: int = 0
    differ: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def faultless(self) -> bool:
        """Tell whether nothing differs, stays or complains."""
        return not (self.differ or self.left_over or self.complaints)


def kill_often(
    command: Command, expected: dict[str, str], kills: int, seed: int, folder: Path
) -> KillReport:
    """Kill a command again and again until it was killed so many times, then compare.

    Every time that it comes to its end, its folder is compared and a new one is begun.

    Args:
        command: to kill.
        expected: contents of its folder where it was never killed.
        kills: how many.
        seed: of the random choices.
        folder: to work in.
    """
    report, rng, log = KillReport(command.name), random.Random(seed), folder / "kill.log"
    target = folder / "broken"
    while sum(report.kills.values()) < kills:
        shutil.rmtree(target, ignore_errors=True)
        for _ in range(20 * kills):
            left = kills - sum(report.kills.values())
            ended = (
                _killed_once(command, target, rng, log, report)
                if left
                else _whole(command, target, log)
            )
            if ended.orphans or (not ended.killed and ended.complaint):
                report.complaints.append(ended.complaint or "processes outlive the command")
            if not ended.killed:
                break
        report.completions += 1
        done = sum(report.kills.values())
        sys.stderr.write(f"{report.command}: {done} of {kills} kills, finished once more\n")
        differ, left_over = compare(expected, contents(target))
        report.differ += differ
        report.left_over += left_over
        if not report.faultless:
            break
    return report


def _whole(command: Command, target: Path, log: Path) -> Ended:
    return run(command.main, command.fill(target), target, log)


def _killed_once(
    command: Command, target: Path, rng: random.Random, log: Path, report: KillReport
) -> Ended:
    """Run a command that dies at a random operation of a random kind, or at a random moment."""
    kind = rng.choice([*KINDS, ANY, "moment"])
    if kind == "moment":
        process = start(command.main, command.fill(target), log)
        time.sleep(rng.uniform(0.05, SECONDS))
        os.kill(process, signal.SIGKILL)
        ended = wait(process, log)
        place = _newest(target)
    else:
        # Few operations are as likely as many, and removals are rare.
        most = OPERATIONS if kind in (ANY, "write") else OPERATIONS // 8
        nth = round(most ** rng.random())
        action = "kill halfway" if kind == "write" and rng.random() < 0.4 else rng.choice(KILLS[:2])
        ended = run(command.main, command.fill(target), target, log, Fault(kind, nth, action))
        kind, _, path = ended.fault.partition(" ")
        place = path.removeprefix(f"{target}/").split("/")[0]
    if ended.killed:
        report.kills[kind] += 1
        report.places[place] += 1
        count = sum(report.kills.values())
        if count % PROGRESS_EVERY == 0:
            sys.stderr.write(f"{command.name}: {count} kills\n")
    return ended


def _newest(folder: Path) -> str:
    """Return the entry of a folder that was changed last."""
    entries = [path for path in folder.glob("*") if path.is_dir()]
    return max(entries, key=lambda path: path.stat().st_mtime_ns).name if entries else "start"
