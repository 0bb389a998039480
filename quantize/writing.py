"""Writing whole files or none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reid_edge.core.errors import QuantizeError


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Write aside, flush to the disk, rename; remove what is half written.

    Raises:
        QuantizeError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise QuantizeError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
