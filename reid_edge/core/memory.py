"""Where freed memory stays while PyTorch runs a model."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_TRIM = 2**31 - 1
# glibc's own number of mappings, and its largest threshold.
_DEFAULT_MMAP_MAX, _DEFAULT_TRIM_THRESHOLD = 65536, 64 << 20


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what PyTorch frees on the CPU in the process, and give it back at the end.

    Each layer allocates its output and frees its input. glibc returns such large blocks to the
    operating system, which clears every page again for the next layer. That takes up to half of
    the time of a forward pass on large batches (docs/results/training.md). The peak may grow,
    because freed blocks of another size are not always used again. A C library other than glibc
    is left as it is.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        yield
        return
    library.mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap, not from a mapping each
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
        library.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        library.malloc_trim(0)
