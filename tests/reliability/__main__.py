"""The reliability harness: kills, broken disks and damaged files, and a table of what came of it.

python -m tests.reliability --kills 200 --faults 40 --corruptions 60 --seed 0
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.reliability import faults

if TYPE_CHECKING:
    from tests.reliability.commands import Command


def main(arguments: list[str]) -> int:
    """Run the harness and print its table; return 0 if nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    parser.add_argument("--faults", type=int, default=30, help="of the disk (default: 30)")
    parser.add_argument("--corruptions", type=int, default=60, help="files (default: 60)")
    parser.add_argument(
        "--short", action="store_true", help="6 kills and 2 damaged files of one run, and no more"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random choices")
    parser.add_argument(
        "--folder", type=Path, help="to work in, kept (default: a temporary one, removed)"
    )
    options = parser.parse_args(arguments)
    if options.short:
        options.kills, options.corruptions = 6, 2
    if "LD_PRELOAD" not in os.environ:
        return _with_library(arguments)
    with contextlib.ExitStack() as stack:
        if options.short:
            from tests.networks import small_networks

            stack.enter_context(small_networks())
        if options.folder is not None:
            options.folder.mkdir(parents=True, exist_ok=True)
            return _harness(options, options.folder.resolve())
        # No TemporaryDirectory: every forked command would remove it at its end.
        folder = Path(tempfile.mkdtemp(prefix="reliability-")).resolve()
        stack.callback(shutil.rmtree, folder)
        return _harness(options, folder)


def _with_library(arguments: list[str]) -> int:
    """Run the harness again with the library, and with a mount namespace where that is allowed."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        library = faults.build(Path(folder))
        command = [sys.executable, "-m", "tests.reliability", *arguments]
        unshare = [shutil.which("unshare") or "unshare", "--mount", "--map-root-user"]
        allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False)
        environment = os.environ | {
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "RELIABILITY_MOUNTS": str(int(allowed.returncode == 0)),
        }
        whole = [*unshare, *command] if allowed.returncode == 0 else command
        return subprocess.run(whole, env=environment, check=False).returncode


def _harness(options: argparse.Namespace, folder: Path) -> int:
    from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501
    from tests.reliability.commands import enrol_command, pipeline_commands
    from tests.reliability.contents import contents
    from tests.reliability.kills import KillReport, kill_often
    from tests.reliability.processes import import_everything, run

    began, wrong = time.monotonic(), 0
    images, seed = folder / "images", options.seed
    write_synthetic_market1501(
        images,
        SyntheticSettings(
            train_identities=8, test_identities=4, cameras=2, images_per_camera=3,
            distractors=2, junk=1, height=64, width=32,
        ),
    )  # fmt: skip
    import_everything()
    commands = pipeline_commands(images, folder, short=options.short)
    shares = {"prune": 1.0} if options.short else {"prune": 0.6, "transfer": 0.3, "enrol": 0.1}
    whole: dict[str, Path] = {}
    expected: dict[str, dict[str, str]] = {}
    for name in shares:
        if name == "enrol":
            model = whole["prune"] / "export" / "float.onnx"
            commands[name] = enrol_command(model, images / "query")
        whole[name] = folder / f"whole-{name}"
        arguments = commands[name].fill(whole[name])
        ended = run(commands[name].main, arguments, whole[name], folder / "whole.log")
        if ended.code != 0:
            _say(f"error: {commands[name].name} fails without a fault: {ended.text[-500:]}")
            return 1
        expected[name] = contents(whole[name])
    every = KillReport("all")
    for name, share in shares.items():
        kills = round(options.kills * share)
        report = kill_often(commands[name], expected[name], kills, seed, folder)
        every.kills += report.kills
        every.places += report.places
        wrong += not report.faultless
        _say(
            f"{report.command}: {sum(report.kills.values())} kills, {report.completions} times "
            f"finished, {_counted(report.differ, 'files differ')}, "
            f"{_counted(report.left_over, 'left over')}, "
            f"{_counted(report.complaints, 'complaints')}"
        )
    _say(f"kills by operation: {_table(every.kills)}")
    _say(f"kills by place: {_table(every.places)}")
    if not options.short:
        wrong += _break_disks(options, commands, whole, expected, folder)
    name = next(iter(shares))
    wrong += _damage(options, commands[name], whole[name], expected[name], folder)
    result = "SOMETHING IS WRONG" if wrong else "nothing is wrong"
    _say(f"{result} ({time.monotonic() - began:.0f} s)")
    return int(bool(wrong))


def _break_disks(
    options: argparse.Namespace,
    commands: "dict[str, Command]",
    whole: dict[str, Path],
    expected: dict[str, dict[str, str]],
    folder: Path,
) -> int:
    """Run commands on disks that fail; return how many kinds of faults showed something wrong."""
    from tests.reliability import disk

    prune, transfer = commands["prune"], commands["transfer"]
    few, seed = 1 + options.faults // 10, options.seed
    trials = [
        disk.broken_disk(prune, expected["prune"], options.faults, seed, folder),
        disk.deleted_folder(transfer, expected["transfer"], few, seed, folder),
        disk.two_at_once(transfer, expected["transfer"], few, seed, folder),
    ]
    if os.environ.get("RELIABILITY_MOUNTS") == "1":
        trials.append(disk.full_disk(transfer, expected["transfer"], folder))
        trials.append(disk.read_only(transfer, whole["transfer"], folder))
    else:
        _say("full and read-only file systems: left out, mounting is not allowed here")
    for trial in trials:
        _say(
            f"{trial.name}: {trial.tried} commands, {trial.refused} refused in one line, "
            f"{_counted(trial.complaints, 'complaints')}"
        )
    return sum(bool(trial.complaints) for trial in trials)


def _damage(
    options: argparse.Namespace,
    command: "Command",
    finished: Path,
    expected: dict[str, str],
    folder: Path,
) -> int:
    """Damage files of a finished run; return 1 if something was wrong."""
    from tests.reliability.corruption import damage_files

    report = damage_files(command, finished, expected, options.corruptions, options.seed, folder)
    _say(
        f"damaged files: {_table(report.damaged)}; {report.refused} refused in one line, "
        f"{report.made_again} made again with the same bits, {report.not_read} that nothing reads, "
        f"{_counted(report.complaints, 'complaints')}"
    )
    return int(bool(report.complaints))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _counted(items: list[str], what: str) -> str:
    return f"{len(items)} {what}" + "".join(f"\n    {item}" for item in items[:20])


def _table(counts: "Counter[str]") -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
