"""Locks on folders, which the system lifts when their holder ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from reid_edge.core.errors import DataError


def shared_lock(folder: Path) -> AbstractContextManager[None]:
    """Hold a lock for reading, beside others who read; wait for whoever writes.

    Raises:
        DataError: there is no such folder.
    """
    return _locked(folder, fcntl.LOCK_SH)


def exclusive_lock(folder: Path) -> AbstractContextManager[None]:
    """Hold a lock for writing, alone; wait for everybody else.

    Raises:
        DataError: there is no such folder.
    """
    return _locked(folder, fcntl.LOCK_EX)


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, which flushing its files does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DataError(f"{folder}: cannot be opened as a folder ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
