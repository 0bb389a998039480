"""Names of image files in the layouts that are read from names."""

from pathlib import Path

from hypothesis import strategies as st

from reid_edge.data.sources import read_source
from tests.fuzz.target import Target

PART = st.sampled_from([
    "0001", "-1", "0000", "00-1", "1501", "_c1", "_c2", "_c", "s1", "_000001", "_00", ".jpg",
    ".png",    ".JPG", "C1T0001F001", "9" * 40, "\u0661", " ", "\n", "\udc80", "jpg",
])  # fmt: skip
NAME = st.lists(PART | st.text(max_size=3), min_size=1, max_size=6).map("".join)
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def run(value: tuple[str, list[list[str]]], folder: Path) -> None:
    """Read a data set with these names."""
    reader, names = value
    for split, files in zip(FOLDERS, names, strict=True):
        (folder / split).mkdir()
        for name in files:
            plain = name.replace("/", "").replace("\0", "").strip(".")
            encoded = plain.encode("utf-8", "surrogateescape" if "\udc80" in plain else "replace")
            if encoded and len(encoded) < 255:
                (folder / split / encoded.decode("utf-8", "surrogateescape")).write_bytes(b"")
    read_source(reader, folder)


TARGET = Target(
    "names",
    st.tuples(
        st.sampled_from(["market1501", "dukemtmc_reid"]),
        st.lists(st.lists(NAME, max_size=3), min_size=3, max_size=3),
    ),
    run,
    known=(("market1501", [["0001_c1s1_000001_00.jpg"], ["\udc80.jpg"], ["00-1_c1.jpg"]]),),
)
