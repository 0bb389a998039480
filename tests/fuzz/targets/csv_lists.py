"""Lists of images in CSV files."""

from pathlib import Path

from hypothesis import strategies as st

from reid_edge.data.sources import read_source
from tests.fuzz.target import Target

IMAGES = ("a.jpg", "b.jpg", "sub/c.jpg")
CELL = st.one_of(
    st.sampled_from([
        *IMAGES, "../a.jpg", "/etc/passwd", "1", "01", "1.0", "-1", "nan", "inf", "", " ", "1e3",
        "0x1", '"', '"a', "a\0b", "~", "~nobody/a.jpg", ".", "sub", "1_0", "\u0661",
    ]),
    st.text(max_size=6),
)  # fmt: skip
HEADER = st.sampled_from([
    "img_path,person_id,camera_id", "img_path,pid,camid", "img_path,person_id", "IMG_PATH,PID",
    "img_path,person_id,cameraid", "img_path", "", "img_path,img_path,pid", "﻿img_path,pid",
])  # fmt: skip
LINES = st.lists(st.lists(CELL, max_size=4).map(",".join), max_size=5)
CONTENT = st.tuples(HEADER, LINES, st.sampled_from(["\n", "\r\n", "\r"])).map(
    lambda parts: parts[2].join([parts[0], *parts[1]]).encode("utf-8", "surrogatepass")
)
LIST = CONTENT | st.binary(max_size=40)


def run(files: dict[str, bytes], folder: Path) -> None:
    """Read the lists."""
    (folder / "sub").mkdir()
    for name in IMAGES:
        (folder / name).write_bytes(b"")
    for name, content in files.items():
        (folder / f"{name}.csv").write_bytes(content)
    read_source("csv", folder)


TARGET = Target(
    "CSV",
    st.dictionaries(st.sampled_from(["train", "query", "gallery", "other"]), LIST, max_size=3),
    run,
    known=(
        {"train": b"img_path,pid\na.jpg,nan\n"},
        {"train": b"img_path,pid\na.jpg,\n"},
        {"train": b"img_path,pid,camid\na.jpg,1,1\nb.jpg,1.0,01\n"},
        {"train": b"img_path,pid\n" + b"a" * 200_000 + b",1\n"},
        {"train": b"img_path,pid\na\0b.jpg,1\n"},
        {"train": b'img_path,pid\n"a.jpg,1\n'},
        {"train": b"\xff\xfeimg_path"},
        {"train": b"img_path,pid\n" + b"x" * 300 + b".jpg,1\n"},
    ),
)
