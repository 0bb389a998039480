"""What native code prints by itself."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_output_silenced() -> Iterator[None]:
    """Drop what native code prints, to standard output, which is for results, and to the other.

    Other threads' output is dropped too, so that the block should be short.
    """
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {}
    for number, stream in streams.items():
        stream.flush()
        kept[number] = os.dup(number)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in streams:
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
