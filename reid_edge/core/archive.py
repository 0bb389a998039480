"""ZIP archives, as which PyTorch saves, that carry a hash of themselves; and damage in any archive.

PyTorch does not compare the checksums of an archive's entries when it loads one.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

# How an archive begins, and how its last record begins, which ends with the size of a comment.
ARCHIVE_HEAD = b"PK\x03\x04"
LAST_RECORD, LAST_RECORD_SIZE = b"PK\x05\x06", 22
# The comment of an archive with a hash: this, and the SHA-256 of all bytes before it.
HASH_NOTE = b"sha256:"
DIGEST_SIZE = 64


def with_hash(archive: bytes | memoryview) -> bytes:
    """Return an archive with the SHA-256 of its bytes as its comment, which readers ignore.

    Raises:
        ValueError: it does not end as an archive without a comment.
    """
    if not _ends_without_comment(bytes(archive[-LAST_RECORD_SIZE:])):
        raise ValueError("not an archive without a comment")
    size = len(HASH_NOTE) + DIGEST_SIZE
    hashed = bytes(archive[:-2]) + size.to_bytes(2, "little") + HASH_NOTE
    return hashed + hashlib.sha256(hashed).hexdigest().encode()


def find_damage(path: Path) -> str | None:
    """Look for damage in a file that PyTorch saved.

    An archive with a hash is compared with it, so that any change is found. In any other archive
    the checksum of each entry is compared. A file that is no archive is not checked.

    Args:
        path: a file that can be read.

    Returns:
        What is damaged, as a clause; None if nothing is.
    """
    with path.open("rb") as file:
        is_archive = file.read(len(ARCHIVE_HEAD)) == ARCHIVE_HEAD
        size = file.seek(0, 2)
        file.seek(max(0, size - DIGEST_SIZE - len(HASH_NOTE)))
        comment = file.read()
        if comment.startswith(HASH_NOTE):
            found, left = hashlib.sha256(), size - DIGEST_SIZE
            file.seek(0)
            while left and (part := file.read(min(left, 1 << 20))):
                found.update(part)
                left -= len(part)
            same = found.hexdigest().encode() == comment.removeprefix(HASH_NOTE)
            return None if same else "its content differs from the hash that it carries"
    if not is_archive:
        return None
    if not _ends_without_comment(comment[-LAST_RECORD_SIZE:]):
        return "it does not end as PyTorch's files do"
    try:
        with zipfile.ZipFile(path) as archive:
            # Entries that overlap can claim any size.
            if sum(entry.compress_size for entry in archive.infolist()) > size:
                return "its entries are larger than the file"
            broken = archive.testzip()
    except Exception as error:  # damage shows as almost any exception
        return " ".join(str(error).split())[:100] or type(error).__name__
    return None if broken is None else f"the checksum of {broken!r} is wrong"


def _ends_without_comment(end: bytes) -> bool:
    return end.startswith(LAST_RECORD) and end.endswith(b"\0\0")
