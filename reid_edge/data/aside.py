"""Folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from reid_edge.core.errors import DataError


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Give a new folder beside ``folder`` to write to; rename it when the block ends well.

    If the block does not end well, nothing is left. Only a process that is killed leaves a folder
    behind; its name begins with a dot and ends in ``.unfinished``, and nothing ever reads it.

    Args:
        folder: does not exist yet, or is an empty folder.

    Raises:
        DataError: the folder is there already, it is the working folder, or anything in the block
            cannot be read or written.
    """
    check_replaceable(folder)
    draft = folder.with_name(f".{folder.name}.{uuid4().hex[:12]}.unfinished")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield draft
        _publish(draft, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error})") from error
    finally:
        # After success it is not there any more: it was renamed.
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Check that another folder can take the place of one.

    Raises:
        DataError: it is the working folder: whoever is in it would be left in a removed one.
    """
    if folder.is_dir() and folder.samefile("."):
        raise DataError(f"{folder}: is the working folder; name a new folder in it")


def _publish(draft: Path, folder: Path) -> None:
    # What bears the name must be whole even after a power cut. Windows has no sync.
    if hasattr(os, "sync"):
        os.sync()
    if folder.is_dir():
        # Only an empty one can be removed so.
        folder.rmdir()
    draft.rename(folder)
