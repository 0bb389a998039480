"""Ending a command on SIGINT and SIGTERM: once, within seconds, with all its processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# ``timeout`` sends a signal to its child and then to the group, so that it comes twice.
SAME_SECONDS = 2.0
# What a command may take to end in an orderly way; files are replaced as a whole in any case.
GRACE_SECONDS = 8.0
# How much later a signal to the group may reach this process than another one of the group.
LATE_SECONDS = 0.3
SPAWNED = "--multiprocessing-fork"

if sys.orig_argv[-1:] == [SPAWNED]:
    # A process that multiprocessing starts imports the command before anything else. Ctrl-C reaches
    # it as well, and would print where it is: the process that started it tells the user, and ends
    # it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Interruption:
    """Turns the first SIGINT or SIGTERM into a ``KeyboardInterrupt``, and notes which it was.

    A second one after some seconds, or an orderly end that takes too long, ends the process at
    once.

    Args:
        say: tells the user that the command was interrupted.
    """

    def __init__(self, say: Callable[[], None]) -> None:
        self._say = say
        self._process = os.getpid()
        self._since = 0.0
        self._number = 0
        self._told = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; a signal that the process ignores stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers
            return
        former = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        try:
            yield
        finally:
            if not self._number:
                for number, handler in former.items():
                    signal.signal(number, handler)

    def has_come(self, *, wait: bool = False) -> bool:
        """Return whether a signal has come.

        Args:
            wait: for one that another process of the group has received before.
        """
        until = time.monotonic() + LATE_SECONDS
        while wait and not self._number and time.monotonic() < until:
            time.sleep(0.01)
        return bool(self._number)

    def end(self) -> int:
        """Tell the user once, kill the processes that were started, return the exit code."""
        if self._number and threading.current_thread() is threading.main_thread():
            # Python gives handled signals back to the system when it ends: the same signal once
            # more would then decide the exit code.
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        if self._told.acquire(blocking=False):
            self._say()
        for child in multiprocessing.active_children():
            child.kill()
        for process in _other_children():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return 128 + (self._number or signal.SIGINT)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A process that loads images has inherited this handler.
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            os._exit(128 + number)
        if self._number:
            if time.monotonic() > self._since + SAME_SECONDS:
                os._exit(self.end())
            return
        self._number, self._since = number, time.monotonic()
        overdue = threading.Timer(GRACE_SECONDS, lambda: os._exit(self.end()))
        overdue.daemon = True
        overdue.start()
        raise KeyboardInterrupt


def _other_children() -> list[int]:
    """Return the processes that this one started, those that are only half started, too (Linux).

    Nothing in Python knows the process whose start an interruption broke off. The tracker that
    multiprocessing cleans up with ends by itself.
    """
    children = []
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            children += [int(child) for child in thread.read_text().split()]
    return [child for child in children if not _is_tracker(child)]


def _is_tracker(process: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return True  # it has ended
