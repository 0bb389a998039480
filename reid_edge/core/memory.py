"""Where freed memory stays while PyTorch runs a model."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from resource import getpagesize

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER = -1
# glibc's own number of mappings, and what it adapts the thresholds to once it has met large blocks;
# it adapts no more after the first call of mallopt.
_DEFAULT_MMAP_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = 65536, 32 << 20, 64 << 20
# Whether a block that is open, or the process, keeps it. mallopt does not say what is set.
_kept: ContextVar[bool] = ContextVar("_kept", default=False)


def keep_freed_memory() -> None:
    """Keep what is freed from now on in the process.

    Each layer of PyTorch allocates its output and frees its input on the CPU. glibc returns such
    large blocks to the operating system, which clears every page again for the next layer. That
    takes more than half of the time of a forward pass on large batches
    (docs/results/training.md). The peak may grow, because freed blocks of another size are not
    always used again. What ``MALLOC_`` variables of the environment say is overwritten. A C library
    other than glibc is left as it is.
    """
    _kept.set(True)
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap, not from a mapping each
        library.mallopt(_M_TRIM_THRESHOLD, _NEVER)


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Do as :func:`keep_freed_memory` says within, and give the memory back at the end.

    What glibc would keep by itself stays: a short call finds the memory of the one before it. A
    block of the same thread within another one, or after :func:`keep_freed_memory`, changes
    nothing. The settings are those of the process: a block that ends gives the memory back for
    other threads, too.
    """
    if _kept.get():
        yield
        return
    before = _resident_bytes()
    keep_freed_memory()
    try:
        yield
    finally:
        _kept.set(False)
        library = _glibc()
        if library is not None:
            library.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
            library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
            library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
            if _resident_bytes() - before > _TRIM_THRESHOLD:
                library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def _resident_bytes() -> int:
    """Return how much memory the process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
    except OSError:
        return 0
