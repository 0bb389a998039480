"""Unpacking archives from elsewhere without trusting their content."""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.progress import Progress
from reid_edge.data.paths import ARCHIVE_SUFFIXES, check_regular, is_archive, relative_path

CHUNK = 2**20
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    RuntimeError, ValueError, IndexError, KeyError, OverflowError, struct.error,
)  # fmt: skip
# By the bytes that a compressed file begins with.
DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], object]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open,
}  # fmt: skip

Entry = tuple[str, IO[bytes]]


@dataclass(frozen=True)
class Limits:
    """What an archive may hold, counted while it is unpacked; the archive's own figures may lie.

    Attributes:
        files: how many files.
        size: bytes of all files together.
    """

    files: int = 2_000_000
    size: int = 100 * 2**30


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> None:
    """Unpack a zip or tar archive into a new folder, whole or not at all.

    Only plain files are written, with the paths that the archive gives, inside ``folder``. Apple's
    ``__MACOSX`` and ``._*`` files are left out.

    Args:
        archive: .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz.
        folder: does not exist yet.
        limits: on the files and their size.
        progress: called with (bytes of the archive read, bytes in all).

    Raises:
        DataError: the archive is broken or encrypted, or has an absolute path, a path with ``..``,
            a link, a device, the same path twice, or more than the limits allow.
    """
    if not is_archive(archive):
        known = ", ".join(ARCHIVE_SUFFIXES)
        raise DataError(f"{archive}: no archive that is known; known are {known}")
    check_regular(archive)
    try:
        raw = archive.open("rb")
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror})") from error
    with raw, written_aside(folder) as draft:
        entries = (_zip_entries if archive.suffix.lower() == ".zip" else _tar_entries)(raw, archive)
        try:
            _write_entries(entries, archive, draft, limits or Limits(), raw, progress)
        except (*BROKEN, OSError) as error:
            # A system's error has a number; what gzip and bz2 find wrong has none.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{archive}: cannot be unpacked ({reason}); get it again, or unpack it "
                "yourself and give the folder"
            ) from error


def _zip_entries(raw: IO[bytes], archive: Path) -> Iterator[Entry]:
    """Yield the path and the content of every file of a zip archive."""
    with zipfile.ZipFile(raw) as content:
        for info in content.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            # Archives made on Windows say nothing about the kind.
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{archive}: {info.filename!r} is a link or a device")
            if not info.filename:
                raise DataError(f"{archive}: an entry has no name")
            if not info.is_dir():
                with content.open(info) as file:
                    yield info.filename, file


def _tar_entries(raw: IO[bytes], archive: Path) -> Iterator[Entry]:
    """Yield the path and the content of every file of a tar archive, compressed or not.

    `tarfile.data_filter` is not used: it writes an absolute path as a relative one and allows links
    within the folder; here both are refused.
    """
    start = raw.read(6)
    raw.seek(0)
    openers = [opener for magic, opener in DECOMPRESSORS.items() if start.startswith(magic)]
    stream = cast("IO[bytes]", openers[0](raw)) if openers else raw
    remembered = _LastRead(stream)
    with tarfile.open(fileobj=cast("IO[bytes]", remembered), mode="r:") as content:
        for member in content:
            if member.isdir():
                continue
            file = content.extractfile(member) if member.isreg() else None
            if file is None:
                raise DataError(f"{archive}: {member.name!r} is a link or a device")
            yield member.name, file
    # Python takes a broken header, or none, for the end of the archive.
    if remembered.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing, or something in it is broken")
    # What is compressed has its checksum behind the archive's end.
    stream.read(CHUNK)


class _LastRead:
    """A stream that remembers what was read last, for tarfile a member's header."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self._stream.read(size)
        return self.last

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _write_entries(
    entries: Iterator[Entry],
    archive: Path,
    draft: Path,
    limits: Limits,
    raw: IO[bytes],
    progress: Progress | None,
) -> None:
    """Write the files of an archive; refuse two with one path, and more than the limits allow."""
    total = archive.stat().st_size
    files = written = 0
    for name, content in entries:
        path = draft / relative_path(name, str(archive))
        if path.name.startswith("._") or "__MACOSX" in path.parts:
            continue
        files += 1
        if files > limits.files:
            raise DataError(f"{archive}: more than {limits.files} files in it; unpack it yourself")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"{archive}: two files in it have the path of {path.name!r}") from error
        with file:
            while chunk := content.read(CHUNK):
                written += len(chunk)
                if written > limits.size:
                    raise DataError(
                        f"{archive}: unpacks to more than is allowed; unpack it yourself"
                    )
                file.write(chunk)
        if progress is not None:
            progress(raw.tell(), total)
    if not files:
        raise DataError(f"{archive}: no files in it")
