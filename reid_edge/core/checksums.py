"""Checksums of the files that an interrupted work resumes from, so that damage is noticed.

A folder's checksums are in one file, ``checksums.json``: by file name, the SHA-256 that the file
may have. There are two while a file is replaced: a process may be killed before or after.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from reid_edge.core.io import hash_file, write_bytes, write_json

CHECKSUMS = "checksums.json"

logger = logging.getLogger(__name__)


def read_checksums(folder: Path) -> dict[str, list[str]]:
    """Return the checksums of a folder's files; none if they cannot be read."""
    try:
        content = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: sums for name, sums in content.items() if isinstance(sums, list)}


def write_checked(path: Path, content: bytes | memoryview) -> None:
    """Replace a file as a whole, with its checksum."""
    digest = hashlib.sha256(content).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read_checksums(path.parent)
    _write(path.parent, known | {path.name: [*known.get(path.name, []), digest]})
    write_bytes(path, content)
    _write(path.parent, known | {path.name: [digest]})


def record_checksums(*paths: Path) -> None:
    """Record the checksums of files of one folder that are complete."""
    folder = paths[0].parent
    _write(folder, read_checksums(folder) | {path.name: [hash_file(path)] for path in paths})


def are_intact(*paths: Path) -> bool:
    """Return whether files of one folder are there and have their checksums.

    A file that has a checksum and does not fit it is named in the log.
    """
    known = read_checksums(paths[0].parent)
    for path in paths:
        sums = known.get(path.name, [])
        if not path.is_file() or hash_file(path) not in sums:
            if sums:
                logger.warning("%s: damaged or incomplete, so it is not used", path)
            return False
    return True


def forget_files(paths: Iterable[Path]) -> None:
    """Remove files of one folder with their checksums."""
    for path in paths:
        path.unlink(missing_ok=True)
        known = read_checksums(path.parent)
        if known.pop(path.name, None) is not None:
            _write(path.parent, known)


def _write(folder: Path, checksums: Mapping[str, list[str]]) -> None:
    write_json(folder / CHECKSUMS, checksums)
