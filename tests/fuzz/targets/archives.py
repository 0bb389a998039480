"""Zip and tar archives that are damaged or name odd paths."""

import io
import tarfile
import zipfile
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from reid_edge.data.prepare.archives import unpack
from tests.fuzz.target import Damage, Target, apply_damage, damaged

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
NAME = st.sampled_from(["a/b.jpg", "a", "", "/x", "../x", "a/../../x", "a\\b", "._a", "a//b", "."])
NAMES = st.lists(NAME | st.text(max_size=8), max_size=3).map(tuple)


@cache
def valid(suffix: str, names: tuple[str, ...]) -> bytes:
    """Return an archive of files with these names."""
    stream = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
            for name in names:
                made.writestr(zipfile.ZipInfo(name), b"content " * 20)
    else:
        with tarfile.open(
            fileobj=stream, mode=f"w:{suffix.removeprefix('.tar').strip('.')}"
        ) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 160
                tar.addfile(info, io.BytesIO(b"content " * 20))
    return stream.getvalue()


def run(value: tuple[tuple[int, list[Damage]], tuple[str, ...]], folder: Path) -> None:
    """Unpack the archive, and check that nothing is outside its folder."""
    (number, changes), names = value
    path = folder / f"archive{SUFFIXES[number % len(SUFFIXES)]}"
    usable = tuple(name.encode("utf-8", "replace").decode() for name in names)
    path.write_bytes(apply_damage(valid(SUFFIXES[number % len(SUFFIXES)], usable), changes))
    try:
        unpack(path, folder / "into")
    finally:
        assert {one.name for one in folder.iterdir()} <= {path.name, "into"}


TARGET = Target(
    "archives",
    st.tuples(damaged(3), NAMES),
    run,
    known=[((number, []), (name,)) for number in range(5) for name in ("", "../x", "/x", "a\0b")],
)
