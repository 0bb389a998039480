"""One process at a time in a folder, with filelock."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reid_edge.core.errors import ReidError

OWNER_SUFFIX = ".owner"
# How long the processes that a killed process started may keep its lock.
ORPHAN_SECONDS = 20.0
POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


@contextmanager
def locked(
    path: Path, advice: str | None = None, *, error: type[ReidError] = ReidError
) -> Iterator[None]:
    """Keep other processes out while the block runs.

    The system lifts the lock when its process ends, however it ends. Processes that a killed
    process started may keep the lock until they notice its death; that is waited for.

    Args:
        path: the lock file; it and ``<path>.owner``, which names the process, are made and stay.
        advice: what to do when another process has the lock; none: wait for that process.
        error: what is raised.

    Raises:
        ReidError: another process has the lock (and there is an advice), or the lock file cannot
            be written.
    """
    lock, owner_file = FileLock(path), path.with_name(path.name + OWNER_SUFFIX)
    started, waits = time.monotonic(), False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0)
        except Timeout as busy:
            owner = "unknown"
            with suppress(OSError):
                owner = owner_file.read_text(encoding="ascii", errors="replace").strip() or owner
            orphaned = not _is_alive(owner) and time.monotonic() < started + ORPHAN_SECONDS
            if advice is not None and not orphaned:
                message = f"{path.parent}: in use by process {owner}; {advice}"
                raise error(message) from busy
            if not (waits or orphaned):
                logger.info("%s: waits for process %s", path.parent, owner)
                waits = True
            time.sleep(POLL_SECONDS)
        except (OSError, NotImplementedError) as failure:
            reason = getattr(failure, "strerror", None) or failure
            raise error(
                f"{path}: cannot be locked ({reason}); make the folder writable, or take another"
            ) from failure
    try:
        owner_file.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        lock.release()


def _is_alive(process: str) -> bool:
    """Tell whether a process runs; one without a number may."""
    if not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, and is somebody else's
        return True
    return True
