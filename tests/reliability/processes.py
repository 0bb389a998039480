"""Commands of the product in processes that start warm: forked where everything is imported."""

import atexit
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.reliability.faults import Fault

Main = Callable[[list[str]], int]

HANGS_AFTER = 600.0
# A process that loads images looks for its parent every few seconds.
ORPHANS_LIVE = 30.0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, or minus the signal.
        text: what it printed.
        fault: the operation that went wrong, kind and path, if it came to that.
        orphans: processes that outlived the command by more than 30 s.
    """

    code: int
    text: str
    fault: str
    orphans: int

    @property
    def killed(self) -> bool:
        """Tell whether the process died by SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def complaint(self) -> str | None:
        """Say what is wrong with how the command failed: neither success nor one clear line."""
        if "Traceback" in self.text:
            return f"traceback: {self.text.strip().splitlines()[-1]}"
        if self.code not in (0, 2):
            return f"exit code {self.code}: {self.text.strip()[-200:]}"
        errors = [line for line in self.text.splitlines() if line.startswith("error: ")]
        if self.code == 2 and len(errors) != 1:
            return f"{len(errors)} error lines: {self.text.strip()[-200:]}"
        if self.orphans:
            return f"{self.orphans} processes outlive the command"
        return None


def import_everything() -> None:
    """Import what the stages import, so that a forked process need not."""
    import lightning.pytorch  # noqa: F401
    import nni.compression.pruning
    import nni.compression.speedup  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime.quantization  # noqa: F401
    import torch._inductor.sizevars
    import torch.ao.quantization.quantize_fx
    import torch.export._trace  # noqa: F401 - torch.fx imports it when it traces
    import torchvision.transforms.v2  # noqa: F401

    import pipeline.engine
    import pipeline.report.show
    import pipeline.stages.cutting
    import pipeline.stages.int8_files  # noqa: F401
    import reid_edge.training.fit  # noqa: F401


def start(
    main: Main, arguments: Sequence[str], log: Path, arm: Callable[[int], None] | None = None
) -> int:
    """Run a command in a forked process; return its number."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    notes = os.open(log.with_suffix(".fault"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    if arm is not None:
        arm(notes)
    try:
        code = main(list(arguments))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code)


def wait(process: int, log: Path, limit: float = HANGS_AFTER) -> Ended:
    """Wait until a command has ended, and its own processes with it.

    A command hangs that has said nothing for ``limit`` seconds: on a busy machine a whole run may
    take much longer. It is killed, and counts as one that ended with exit code 124.
    """
    said, deadline = -1, 0.0
    status = None
    while True:
        found, found_status = os.waitpid(process, os.WNOHANG)
        status = os.waitstatus_to_exitcode(found_status) if found else None
        size = log.stat().st_size if log.is_file() else 0
        if size != said:
            said, deadline = size, time.monotonic() + limit
        if status is not None or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    if status is None:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        status = 124
    deadline = time.monotonic() + ORPHANS_LIVE
    while (orphans := _members(process)) and time.monotonic() < deadline:
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return Ended(
        status,
        log.read_text(errors="replace"),
        log.with_suffix(".fault").read_text().strip().split("\n")[0],
        orphans,
    )


def run(
    main: Main, arguments: Sequence[str], folder: Path, log: Path, fault: Fault | None = None
) -> Ended:
    """Run a command, with a fault in what it does to files below a folder."""

    def arm(notes: int) -> None:
        if fault is not None:
            fault.arm(folder, notes)

    return wait(start(main, arguments, log, arm), log)


def _members(group: int) -> int:
    """Return how many processes of a group live."""
    living = 0
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group:
                living += process.info["status"] != psutil.STATUS_ZOMBIE
    return living
