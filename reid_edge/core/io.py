"""Writing whole files and folders, or none."""

import glob
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from reid_edge.core.archive import with_hash
from reid_edge.core.errors import DataError, ReidError


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file aside, flush it to the disk, rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".partial")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


@contextmanager
def written_whole(path: Path, error: type[ReidError]) -> Iterator[IO[bytes]]:
    """Write a file aside, flush it to the disk, rename it into place; or leave nothing behind.

    Args:
        path: of the file; its folder exists.
        error: what is raised.

    Raises:
        ReidError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as failure:
        raise error(f"{path}: cannot be written: {failure.strerror}") from failure
    finally:
        aside.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what `written_whole` has left of a file because its process was killed."""
    for aside in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_torch(path: Path, value: Any, *, hashed: bool = False) -> None:
    """Write a value as ``torch.save`` does, whole or not at all.

    Args:
        path: of the file.
        value: tensors, numbers and text in dictionaries and lists.
        hashed: let the file carry a hash of itself, by which ``core.archive.find_damage`` finds any
            change of it.
    """
    import torch  # takes seconds, and the commands need this module for less

    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getbuffer()
    write_bytes(path, with_hash(content) if hashed else content)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder`` to write to; rename it when the block ends well.

    If the block fails, nothing stays. Only a process that is killed leaves a folder behind; its
    name begins with a dot and ends in ``.unfinished``, and nothing ever reads it.

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
        # The renamed folder must be whole even after a power cut. Windows has no sync.
        if hasattr(os, "sync"):
            os.sync()
        if folder.is_dir():
            folder.rmdir()  # fails unless the folder is empty
        draft.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error})") from error
    finally:
        # After success it does not exist: it was renamed.
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Check that another folder can take the place of one.

    Raises:
        DataError: it is the working folder; processes in it would be left in a removed one.
    """
    if folder.is_dir() and folder.samefile("."):
        raise DataError(f"{folder}: is the working folder; name a new folder in it")


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, which flushing its files does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file's content, or of several files' hashes in their order."""
    hashes = [hash_file(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def allow_any_file_name() -> None:
    """Let this process print file names that are not UTF-8, with a backslash for odd bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
