"""Run what may crash or hang in a process of its own, with a time limit.

Converters and runtimes of device makers are native code: a model that they cannot carry may end the
process or never return. What they print goes to a file; its last line is named where they crash.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from reid_edge.core.errors import QuantizeError, ReidError

T = TypeVar("T")

# What a converter prints last is often the reason why it crashed.
_LINE_LENGTH = 160


def run_apart(function: Callable[..., T], *arguments: Any, time_limit_s: float) -> T:
    """Call a function in a new process and return what it returns.

    The process and those that it starts form a group of their own, which ends with this process.
    Their temporary files lie in a folder that is removed, also where they are stopped.

    Args:
        function: of a module; it and its arguments and its result can be pickled.
        arguments: of the function.
        time_limit_s: seconds after which the group is stopped.

    Raises:
        ReidError: what the function raised.
        QuantizeError: it raised something else, its process crashed, or the time is over.
    """
    context = multiprocessing.get_context("spawn")
    answers, theirs = context.Pipe(duplex=False)
    waits, alive = context.Pipe(duplex=False)
    # A process that is being stopped may still write there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        printed = Path(folder) / "printed"
        process = context.Process(
            target=_serve, args=(theirs, waits, str(printed), function, arguments), daemon=True
        )
        process.start()
        theirs.close()
        waits.close()
        try:
            if not answers.poll(time_limit_s):
                raise QuantizeError(f"took more than {time_limit_s:g} s and was stopped")
            try:
                succeeded, answer = answers.recv()
            except EOFError as error:
                process.join()
                raise QuantizeError(_crash(process.exitcode, printed)) from error
        finally:
            _end(process)
            alive.close()
            answers.close()
    if succeeded:
        result: T = answer
        return result
    assert isinstance(answer, ReidError), "other errors became one in the process"
    raise answer


def _end(process: Any) -> None:
    """Stop the process and its group, as far as they still run."""
    # The group exists as soon as the process runs `_serve`, and after its leader has ended.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()


def _crash(code: int | None, printed: Path) -> str:
    how = f"exit code {code}"
    if code is not None and code < 0:
        with suppress(ValueError):
            how = signal.Signals(-code).name
    text = printed.read_text(errors="replace") if printed.is_file() else ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    last = f"; it printed last: {lines[-1][:_LINE_LENGTH]}" if lines else ""
    return f"its process crashed ({how}){last}"


def _serve(
    answers: Connection,
    waits: Connection,
    printed: str,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    """Call the function and answer, in the new process."""
    os.setpgid(0, 0)  # Ctrl-C reaches the other process alone, which ends this group

    def end_with_parent() -> None:
        with suppress(EOFError, OSError):
            waits.recv_bytes()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(printed).parent)
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    answer: tuple[bool, object]
    try:
        answer = (True, function(*arguments))
    except ReidError as error:
        answer = (False, error)
    except Exception as error:
        reason = " ".join(str(error).partition("\n")[0].split())[:_LINE_LENGTH]
        answer = (False, QuantizeError(f"{type(error).__name__}: {reason}"))
    answers.send(answer)
    answers.close()
