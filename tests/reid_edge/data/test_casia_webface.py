"""CASIA-WebFace: folders, and InsightFace's record file."""

import struct
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.casia_webface import read_casia_webface

MAGIC = struct.pack("<I", 0xCED7230A)
JPEG, PNG = b"\xff\xd8 an image", b"\x89PNG another one."


def frame(payload: bytes, kind: int = 0) -> bytes:
    head = MAGIC + struct.pack("<I", kind << 29 | len(payload))
    return head + payload + b"\0" * (-len(payload) % 4)


def labelled(person: float, image: bytes) -> bytes:
    return struct.pack("<IfQQ", 0, person, 1, 0) + image


def with_labels(labels: tuple[float, ...], image: bytes = b"") -> bytes:
    count = len(labels)
    return struct.pack(f"<IfQQ{count}f", count, 0.0, 1, 0, *labels) + image


def test_folders_in_a_wrapping(tmp_path: Path) -> None:
    for name in ("000000/1.jpg", "000000/2.jpg", "000001/1.jpg"):
        path = tmp_path / "casia-webface" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    data = read_casia_webface(tmp_path)
    assert [(p.person, p.camera) for p in data.train] == [(0, 1), (0, 2), (1, 1)]


def test_a_record_file(tmp_path: Path) -> None:
    split = labelled(3, JPEG + b"\0" * ((-len(JPEG)) % 4) + MAGIC + b" and on")
    cut = split.index(MAGIC)
    content = (
        # InsightFace's counts come first, and where each identity begins comes last.
        frame(with_labels((4.0, 7.0)))
        + frame(labelled(0, JPEG))
        + frame(with_labels((1.0, 0.0), PNG))
        + frame(split[:cut], 1)
        + frame(split[cut + 4 :], 3)
        + frame(with_labels((1.0, 2.0)))
    )
    (tmp_path / "train.rec").write_bytes(content)
    data = read_casia_webface(tmp_path)
    assert [p.person for p in data.train] == [0, 1, 3]
    assert data.train[0].path.read_bytes() == JPEG
    assert data.train[1].path.read_bytes() == PNG
    assert data.train[1].path.suffix == ".png"
    # The magic that splits the record is part of the image.
    assert data.train[2].path.read_bytes() == split[24:]
    # Extracted once: the second reading does not look at the record.
    (tmp_path / "train.rec").write_bytes(b"broken")
    assert read_casia_webface(tmp_path) == data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else", "train.rec: is no record file of MXNet"),
        (frame(labelled(0, JPEG))[:-6], "ends in the middle of a record; get it again"),
        (frame(labelled(0, JPEG)) + MAGIC, "ends in the middle of a record"),
        (frame(labelled(0, JPEG), 1), "ends in the middle of a record"),
        (frame(labelled(0, JPEG), 3), "a part of a split record is missing"),
        (frame(labelled(0, JPEG), 1) + frame(JPEG), "a part of a split record is missing"),
        (frame(b"short"), "a record is too short for its header"),
        (frame(struct.pack("<IfQQ", 9, 0, 0, 0)), "a record is too short for its labels"),
        (frame(labelled(-1, JPEG)), "-1.0 is no identity"),
        (frame(labelled(float("nan"), JPEG)), "nan is no identity"),
    ],
)
def test_a_broken_record_file_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_casia_webface(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.rec"]


def test_neither(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected CASIA-WebFace: a folder per identity, or train"):
        read_casia_webface(tmp_path)
