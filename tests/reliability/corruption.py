"""Every file of a finished or interrupted run, damaged: a bit flipped, cut short, emptied."""

import random
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.commands import Command
from tests.reliability.contents import compare, contents
from tests.reliability.processes import run

# Folders that a stage's former results are moved to; they may hold damaged files.
SET_ASIDE = "superseded/"
# Files that only the page is drawn from, and what an interrupted stage is resumed by: nothing reads
# it once the stage is finished.
NOT_READ = ("metrics.csv", "found.json", "started.json")
# Settings of trackers, which their users may change.
CHANGEABLE = (".yaml", ".yml", ".txt")
DAMAGES = ("bit flipped", "cut short", "emptied")


@dataclass
class CorruptionReport:
    """What damaged files led to.

    Attributes:
        damaged: how many files were damaged, by the kind of damage.
        refused: commands that ended with exit code 2 and one line.
        made_again: commands that ended with the right bits.
        not_read: damaged files that stay as they are, since no later stage reads them: the models
            of the iterations of a finished stage, the settings of trackers, and `NOT_READ`.
        complaints: everything else.
    """

    damaged: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    made_again: int = 0
    not_read: int = 0
    complaints: list[str] = field(default_factory=list)


def damage_files(
    command: Command, finished: Path, expected: dict[str, str], times: int, seed: int, folder: Path
) -> CorruptionReport:
    """Damage one file of a run, then run the command and its report again.

    The run is finished, or interrupted before the last record of one of its stages.

    Args:
        command: that made the folder.
        finished: the folder.
        expected: its contents.
        times: how many files are damaged; each kind of file comes up before one does twice.
        seed: of the random choices.
        folder: to work in.
    """
    report, rng, target = CorruptionReport(), random.Random(seed), folder / "damaged"
    names = [name for name in expected if Path(name).name not in ("lock", "lock.owner")]
    rng.shuffle(names)
    for number in range(times):
        name, damage = names[number % len(names)], DAMAGES[rng.randrange(len(DAMAGES))]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(finished, target)
        if rng.random() < 0.3 and "/" in name and not name.endswith("stage.json"):
            # As a kill leaves it: the stage is not finished.
            (target / name.split("/")[0] / "stage.json").unlink(missing_ok=True)
        sys.stderr.write(f"damaged file {number + 1} of {times}: {name} ({damage})\n")
        damage_file(target / name, damage, rng)
        report.damaged[damage] += 1
        for arguments in (["--run", str(target), "--report"], command.fill(target)):
            ended = run(command.main, arguments, target, folder / "corruption.log")
            if ended.complaint:
                report.complaints.append(f"{name} ({damage}): {ended.complaint}")
        if ended.code == 2:
            report.refused += 1
            continue
        differ, left_over = compare(expected, contents(target))
        unread = "/iteration_" in name or Path(name).name in NOT_READ
        changeable = "/trackers/" in name and name.endswith(CHANGEABLE)
        if differ == [name] and (unread or changeable):
            report.not_read += 1
            continue
        report.complaints += [f"{name} ({damage}): {other} differs" for other in differ]
        report.complaints += [
            f"{name} ({damage}): {other} is left over"
            for other in left_over
            if not other.startswith(SET_ASIDE)
        ]
        report.made_again += not differ
    return report


def damage_file(path: Path, damage: str, rng: random.Random) -> None:
    """Flip a bit of a file, cut it in half, or empty it."""
    content = bytearray(path.read_bytes())
    if damage == "bit flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if damage == "cut short":
        content = content[: len(content) // 2]
    path.write_bytes(b"" if damage == "emptied" else content)
