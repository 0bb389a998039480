"""Run inputs in a process of their own, with a limit of time and of memory."""

import contextlib
import io
import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from reid_edge.cli.guard import Guard
from tests.fuzz.target import Target

SECONDS = 60.0
MEMORY = 4 << 30

Outcome = Literal["accepted", "refused", "traceback", "hang", "memory", "killed"]
ALLOWED: tuple[Outcome, ...] = ("accepted", "refused")


@dataclass
class Tally:
    """What became of the inputs of a target.

    Attributes:
        outcomes: how many inputs ended in each way.
        failures: an input for each way to fail, the shortest one, and what was printed.
        seconds: of all inputs together.
        slowest: seconds of the slowest input.
        peak: largest resident memory of the process, in bytes.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: dict[str, tuple[Any, str]] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0

    @property
    def inputs(self) -> int:
        """Return how many inputs were run."""
        return sum(self.outcomes.values())


class Runner:
    """A process that runs the inputs of a target; a new one takes its place where it hangs."""

    def __init__(self, target: Target, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._target = target
        self._seconds = seconds
        self._memory = memory
        self._context = multiprocessing.get_context("fork")
        self._start()

    def _start(self) -> None:
        self._ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(self._target, self._ours, theirs, self._memory), daemon=True
        )
        self._process.start()
        theirs.close()

    def run(self, value: Any) -> tuple[Outcome, str, int]:
        """Return how an input ended, what was printed, and the peak memory in bytes."""
        self._ours.send(value)
        if not self._ours.poll(self._seconds):
            self._process.kill()
            self._process.join()
            self._start()
            return "hang", f"more than {self._seconds:g} s", 0
        try:
            found: tuple[Outcome, str, int] = self._ours.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            return "killed", f"the process ended with {code}", 0
        return found

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def fuzz(target: Target, inputs: int, *, seed_: int = 0, seconds: float | None = None) -> Tally:
    """Run the known inputs of a target, then drawn ones.

    Args:
        target: what to run.
        inputs: how many to draw.
        seed_: decides the draws.
        seconds: no more inputs are run after so many; none: no limit.
    """
    tally, runner, started = Tally(), Runner(target), time.monotonic()

    def run(value: Any) -> None:
        if seconds is not None and time.monotonic() - started > seconds:
            return
        begun = time.monotonic()
        outcome, text, peak = runner.run(value)
        taken = time.monotonic() - begun
        tally.outcomes[outcome] += 1
        tally.seconds += taken
        tally.slowest = max(tally.slowest, taken)
        tally.peak = max(tally.peak, peak)
        if outcome not in ALLOWED:
            key = f"{outcome}: {text.strip().splitlines()[-1] if text.strip() else ''}"
            known = tally.failures.get(key)
            if known is None or len(repr(value)) < len(repr(known[0])):
                tally.failures[key] = (value, text)

    try:
        for value in target.known:
            run(value)
        if inputs:
            drawn = settings(
                max_examples=inputs, database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
            )(given(target.inputs)(run))  # fmt: skip
            seed(seed_)(drawn)()
    finally:
        runner.close()
    return tally


def _serve(target: Target, others: Connection, end: Connection, memory: int) -> None:
    # The forked process has a copy of it; the pipe ends when no process holds one.
    others.close()
    limited = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limited, limited))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What C libraries print is no part of the outcome.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for value in _received(end):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            outcome, text = _run(target, value, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        end.send((outcome, text, peak))


def _received(end: Connection) -> Iterator[Any]:
    with contextlib.suppress(EOFError):
        while True:
            yield end.recv()


def _run(target: Target, value: Any, folder: Path) -> tuple[Outcome, str]:
    output = io.StringIO()

    def action() -> None:
        target.run(value, folder)

    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
            code = Guard().run(action)
    except BaseException:
        return "traceback", traceback.format_exc()
    text = output.getvalue()
    if code == 0:
        return "accepted", text
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if any("out of memory" in line for line in errors):
        return "memory", text
    told = len(errors) == 1 and text.rstrip().endswith(errors[0]) and len(errors[0]) > 10
    return ("refused", text) if code == 2 and told else ("traceback", f"{text}\nexit code {code}")


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def table(tallies: Iterable[tuple[str, Tally]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| kind | inputs | accepted | refused | tracebacks | hangs | memory | killed | slowest "
        "| peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies:
        counts = [tally.outcomes[o] for o in
                  ("accepted", "refused", "traceback", "hang", "memory", "killed")]  # fmt: skip
        cells = [name, tally.inputs, *counts, f"{tally.slowest:.1f} s", f"{tally.peak >> 20} MB"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
