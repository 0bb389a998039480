"""MSMT17's lists."""

from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.msmt17 import read_msmt17

LISTS = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0015_0.jpg 0",
                       "0001/0001_000_14_0303noon_0015_0.jpg 1"],
    "list_val.txt": ["0000/0000_001_02_0303morning_0016_0.jpg 0"],
    "list_query.txt": ["0000/0000_000_05_0303morning_0015_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_001_06_0303morning_0015_0.jpg 0"],
}  # fmt: skip


def write(base: Path, train: str = "train", test: str = "test") -> Path:
    for name, lines in LISTS.items():
        base.mkdir(parents=True, exist_ok=True)
        (base / name).write_text("\n".join(lines) + "\n")
        for line in lines:
            folder = train if name in ("list_train.txt", "list_val.txt") else test
            path = base / folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return base


@pytest.mark.parametrize(
    ("wrapping", "train", "test"),
    [
        ("", "train", "test"),
        ("MSMT17_V1", "train", "test"),
        ("msmt17/MSMT17_V2", "mask_train_v2", "mask_test_v2"),
    ],
)
def test_both_versions(tmp_path: Path, wrapping: str, train: str, test: str) -> None:
    write(tmp_path / wrapping, train, test)
    data = read_msmt17(tmp_path)
    assert [(p.person, p.camera) for p in data.train] == [(0, 1), (1, 14)]
    # Persons of the test set are counted on from those of the training set.
    assert [(p.person, p.camera) for p in data.query] == [(2, 5)]
    assert [(p.person, p.camera) for p in data.gallery] == [(2, 6)]
    assert data.query[0].path == tmp_path / wrapping / test / LISTS["list_query.txt"][0].split()[0]


def test_train_all(tmp_path: Path) -> None:
    data = read_msmt17(write(tmp_path), train_all=True)
    assert [(p.person, p.camera) for p in data.train] == [(0, 1), (1, 14), (0, 2)]


def test_a_missing_set_list_or_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected MSMT17: list_train.txt beside train/"):
        read_msmt17(tmp_path)
    write(tmp_path)
    (tmp_path / "list_query.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read list_query.txt and the folder test"):
        read_msmt17(tmp_path)
    (tmp_path / "list_query.txt").write_text("\n")
    with pytest.raises(DataError, match=r"list_query.txt: the list is empty"):
        read_msmt17(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0000/portrait.jpg 0",
            r"list_val.txt line 2: cannot read '0000/portrait.jpg 0'; expected",
        ),
        ("0000/0000_001_02_0303morning_0016_0.jpg", r"line 2: cannot read"),
        ("0000/0000_001_02_0303morning_0016_0.jpg -1", r"line 2: cannot read"),
        ("0000/0000_001_02_gone.jpg 0", r"line 2: no such image: '0000/0000_001_02_gone.jpg'"),
        ("../0000_001_02_0303.jpg 0", r"line 2: the path .* climbs out of the folder"),
        ("/tmp/0000_001_02_0303.jpg 0", r"line 2: the path .* is absolute"),
    ],
)
def test_a_line_that_cannot_be_used(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path)
    with (tmp_path / "list_val.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        read_msmt17(tmp_path)
