"""Archives: what is in them comes out, and nothing gets anywhere else."""

import bz2
import contextlib
import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.prepare.archives import Limits, is_archive, unpack

Writer = Callable[[Path], Path]
FILES = {"set/query/a.jpg": b"a" * 3000, "set/notes.txt": b"notes"}


def write_zip(path: Path, files: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, content in (FILES if files is None else files).items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes] | None = None) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in (FILES if files is None else files).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_tar_member(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(member)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive: Path, message: str, limits: Limits | None = None) -> None:
    """Check that it is refused with these words, and that nothing is left of it."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        unpack(archive, archive.parent / "out", limits=limits)
    assert "\n" not in str(caught.value)
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"]
)
def test_what_is_in_it_comes_out(tmp_path: Path, name: str) -> None:
    write = write_zip if name.lower().endswith("zip") else write_tar
    archive = write(tmp_path / name)
    reported: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "out", progress=lambda done, total: reported.append((done, total)))
    assert contents(tmp_path / "out") == FILES
    assert len(reported) == 2
    assert all(0 < done <= total == archive.stat().st_size for done, total in reported)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out"])


def test_names_of_archives() -> None:
    assert is_archive(Path("Market-1501-v15.09.15.zip"))
    assert not is_archive(Path("Market-1501-v15.09.15"))


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../evil.jpg", r"the path '../evil.jpg' climbs out of the folder with '..'"),
        ("set/../../evil.jpg", "climbs out of the folder"),
        ("..\\evil.jpg", "climbs out of the folder"),
        ("/tmp/evil.jpg", "the path '/tmp/evil.jpg' is absolute"),
        ("C:/evil.jpg", "is absolute"),
    ],
)
def test_paths_that_lead_out(tmp_path: Path, write: object, name: str, message: str) -> None:
    if write is write_zip:
        refused(write_zip(tmp_path / "a.zip", {"set/a.jpg": b"a", name: b"evil"}), message)
    else:
        refused(write_tar(tmp_path / "a.tar", {"set/a.jpg": b"a", name: b"evil"}), message)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("set/link")
    member.type, member.linkname = kind, "/etc/passwd"
    refused(write_tar_member(tmp_path / "a.tar", member), "a.tar: 'set/link' is a link or a device")


def test_links_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("set/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", r"a.zip: 'set/link' is a link or a device")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_limits_count_what_is_really_written(tmp_path: Path, name: str) -> None:
    files = {f"{number}.jpg": b"\0" * 1_000_000 for number in range(3)}
    archive = (write_zip if name == "a.zip" else write_tar)(tmp_path / name, files)
    assert archive.stat().st_size < 100_000
    refused(archive, "unpacks to more than is allowed; unpack it yourself", Limits(size=2_500_000))
    refused(archive, "more than 2 files in it; unpack it yourself", Limits(files=2))
    unpack(archive, tmp_path / "out", limits=Limits(files=3, size=3_000_000))


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
        content.writestr(zipfile.ZipInfo(""), b"1")
    refused(tmp_path / "a.zip", "a.zip: an entry has no name")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_fifo_is_no_archive(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, rf"{name}: is a FIFO; expected a file")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_damage_anywhere_is_one_line(tmp_path: Path, write: Writer) -> None:
    archive = write(tmp_path / ("a.zip" if write is write_zip else "a.tar"))
    whole = archive.read_bytes()
    generator = random.Random(1)
    for number in range(150):
        content = bytearray(whole)
        for _ in range(3):
            content[generator.randrange(len(content))] = generator.randrange(256)
        archive.write_bytes(content)
        with contextlib.suppress(DataError):
            unpack(archive, tmp_path / f"out{number}", limits=Limits(size=10**7))


def test_the_same_path_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"1")
        archive.writestr("b.jpg", b"2")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"3")
    refused(tmp_path / "a.zip", r"two files in it have the path of 'a.jpg'")
    write_tar(tmp_path / "a.tar", {"a": b"1", "a/b.jpg": b"2"})
    refused(tmp_path / "a.tar", r"two files in it have the path of 'b.jpg'")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("keep", [0, 20, 0.6])
def test_broken_archives(tmp_path: Path, name: str, keep: float) -> None:
    archive = (write_zip if name == "a.zip" else write_tar)(tmp_path / name)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    if name == "a.tar" and keep == 0.6:
        # Only the padding at its end is gone.
        archive.write_bytes(content[:2000])
    refused(archive, "cannot be unpacked .*; get it again, or unpack it yourself and give the fold")


def test_changed_bytes(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a.jpg": bytes(range(256)) * 4})
    content = bytearray(archive.read_bytes())
    content[120] ^= 0xFF
    archive.write_bytes(content)
    refused(archive, "cannot be unpacked")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a.jpg": b"a"})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(signature) + offset] |= 1
    archive.write_bytes(content)
    refused(archive, "cannot be unpacked .*encrypted.* unpack it yourself")


def test_what_the_file_system_refuses(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a" * 300 + ".jpg": b"a"})
    refused(archive, r"out: cannot be made \(\[Errno 36\] File name too long")


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.rar: no archive that is known; known are .zip, .tar"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
    with pytest.raises(DataError, match=r"a.zip: cannot be read \(No such file"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    refused(write_tar(tmp_path / "a.tar", {}), "(no files in it|cannot be unpacked)")


def test_apples_files_are_left_out(tmp_path: Path) -> None:
    files = {"set/a.jpg": b"a", "set/._a.jpg": b"apple", "__MACOSX/set/._a.jpg": b"apple"}
    unpack(write_zip(tmp_path / "a.zip", files), tmp_path / "out")
    assert contents(tmp_path / "out") == {"set/a.jpg": b"a"}


def test_a_folder_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refused(write_zip(tmp_path / "a.zip"), "out: cannot be made")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2"])
def test_a_tar_that_ends_early_or_has_a_broken_header(tmp_path: Path, name: str) -> None:
    """Python's own tarfile takes these for whole."""
    whole = write_tar(tmp_path / "whole.tar").read_bytes()
    second = 512 + 3072
    broken = bytearray(whole)
    broken[second + 10] ^= 0xFF
    compress = {"a.tar": bytes, "a.tar.gz": gzip.compress, "a.tar.bz2": bz2.compress}[name]
    for content in (whole[:second], whole[: second + 100], bytes(broken)):
        (tmp_path / name).write_bytes(compress(content))
        refused(tmp_path / name, r"cannot be unpacked \(its end is missing, or something in it is")
