"""Signs of life: every rank writes one each second, and notices which rank has stopped."""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

TICK_SECONDS = 1.0
# A rank that is silent for so long is lost ...
SILENT_SECONDS = 7.0
# ... unless it runs on this machine and is not stopped: it may be busy in C code.
BUSY_SECONDS = 60.0
# How long the store may take for an answer.
STORE_SECONDS = 5.0
ENDED = "ended"
# Key of the error of the rank that failed first.
ERROR = "error"


@dataclass(frozen=True)
class Lost:
    """A rank that gives no sign of life.

    Attributes:
        rank: of it.
        size: number of ranks.
        process: its number.
        machine: its name.
        here: whether this process can see it.
    """

    rank: int
    size: int
    process: int
    machine: str
    here: bool

    def __str__(self) -> str:
        """Return the line for the user."""
        return (
            f"rank {self.rank} of {self.size} (process {self.process} on {self.machine}) was "
            "killed or hangs, so all ranks end; the same command resumes after the last whole "
            "epoch, also with another number of ranks"
        )


class Heartbeat(threading.Thread):
    """Write a sign of life of this process each second.

    Args:
        store: that all ranks write to; its connection must be of this thread alone.
        rank: of this process.
        signals: file descriptor that a byte comes from when this process gets a signal, which then
            ends it: what waits for other ranks in C code cannot handle a signal itself.
    """

    def __init__(self, store: Store, rank: int, signals: int | None = None) -> None:
        super().__init__(daemon=True, name="signs of life")
        self._store = store
        self._key = key_of(rank)
        self._end = threading.Event()
        self._signals = signals
        self._words = f"{os.getpid()} {socket.gethostname()} {_same_processes()}"

    def beat(self, count: int) -> None:
        """Write a sign of life."""
        self._store.set(self._key, f"{self._words} {count}")

    def run(self) -> None:
        """Write one each second until the end."""
        count = 0
        while not self._end.wait(0 if self._signals is not None else TICK_SECONDS):
            if (
                self._signals is not None
                and select.select([self._signals], [], [], TICK_SECONDS)[0]
            ):
                number = os.read(self._signals, 1)[0]
                with suppress(RuntimeError):
                    self._store.set(self._key, ENDED)
                end_process(128 + number)
            count += 1
            try:
                self.beat(count)
            except RuntimeError:  # the store is gone, which others notice too
                return

    def stop(self) -> None:
        """Write that this rank has ended as it should."""
        self._end.set()
        self.join(STORE_SECONDS)
        try:
            self._store.set(self._key, ENDED)
        except RuntimeError:
            return


def end_process(code: int) -> NoReturn:
    """End this process at once, with the processes that it started."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(code)


def key_of(rank: int) -> str:
    """Return the key of a rank's sign of life."""
    return f"alive/{rank}"


class Watch(threading.Thread):
    """Read the signs of life of all ranks each second; call a function once if one is lost.

    Args:
        store: as for :class:`Heartbeat`, through a connection of this thread alone.
        size: number of ranks.
        on_loss: is called with the rank that is lost, or None if the store cannot be reached.
        on_error: is called if a rank has failed and says why, or if rank zero has ended.
        skipped: ranks that may be silent at the moment.
    """

    def __init__(
        self,
        store: Store,
        size: int,
        on_loss: Callable[[Lost | None], None],
        on_error: Callable[[], None] = lambda: None,
        skipped: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        super().__init__(daemon=True, name="watch over ranks")
        self._store = store
        self._size = size
        self._on_loss = on_loss
        self._on_error = on_error
        self._skipped = skipped
        self._end = threading.Event()
        self._seen: dict[int, tuple[str, float]] = {}

    def run(self) -> None:
        """Look each second until the end, or until a rank is lost."""
        self._store.set_timeout(timedelta(seconds=STORE_SECONDS))
        while not self._end.wait(TICK_SECONDS):
            answered = threading.Event()
            threading.Thread(target=self._expect, args=(answered,), daemon=True).start()
            try:
                failed = self._store.check([ERROR])
                lost = None if failed else self.look()
            except RuntimeError:
                if not self._end.is_set():
                    self._on_loss(None)
                return
            finally:
                answered.set()
            if failed or self._seen.get(0, ("", 0.0))[0] == ENDED:
                self._on_error()
                return
            if lost is not None:
                self._on_loss(lost)
                return

    def _expect(self, answered: threading.Event) -> None:
        """Take the store for lost if it gives no answer: a cut network breaks no connection."""
        # The second wait is for an answer that this process was too busy to take.
        if not answered.wait(SILENT_SECONDS) and not answered.wait(TICK_SECONDS):
            self._on_loss(None)

    def look(self) -> Lost | None:
        """Return the rank that has been silent for too long, if there is one."""
        started = [
            rank
            for rank in range(self._size)
            if rank in self._seen or self._store.check([key_of(rank)])
        ]
        values = self._store.multi_get([key_of(rank) for rank in started]) if started else []
        now = time.monotonic()
        skipped = self._skipped()
        for rank, raw in zip(started, values, strict=True):
            value = raw.decode()
            former, since = self._seen.get(rank, ("", now))
            if value != former or rank in skipped:
                self._seen[rank] = value, now
                continue
            if value == ENDED or now - since < SILENT_SECONDS:
                continue
            process, machine, processes, _ = value.split(" ")
            here = processes == _same_processes()
            if here and _is_busy(int(process)) and now - since < BUSY_SECONDS:
                continue
            return Lost(rank, self._size, int(process), machine, here)
        return None

    def gone(self) -> Lost | None:
        """Return a rank whose process on this machine does not exist any more, if there is one."""
        for rank, (value, _) in self._seen.items():
            if value == ENDED:
                continue
            process, machine, processes, _ = value.split(" ")
            if processes == _same_processes() and not _exists(int(process)):
                current = self._store.get(key_of(rank)).decode()
                if current != ENDED:
                    return Lost(rank, self._size, int(process), machine, here=True)
        return None

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        if threading.current_thread() is not self and self.is_alive():
            self.join(STORE_SECONDS)  # Python must not end it within the store's code


def _same_processes() -> str:
    """Return what only processes have in common that see each other by their numbers."""
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _exists(process: int) -> bool:
    return sys.platform != "linux" or Path(f"/proc/{process}").exists()


def _is_busy(process: int) -> bool:
    """Tell whether a process of this machine exists and is not stopped."""
    if sys.platform != "linux":
        return False
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "TtZX"
