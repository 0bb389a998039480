"""As what a folder is read."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reid_edge.cli.reading import Reading, read_as
from reid_edge.core.errors import DataError

Paint = Callable[..., Path]

CLASSIC = "cuhk03-classic-detected"


def quiet(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def cuhk03(tmp_path: Path, paint: Paint) -> Path:
    """Both kinds of boxes; person 1 is tested in the first classic split, 2 and 3 in the second."""
    names = {person: [f"1_00{person}_{view}_0{view}.png" for view in (1, 2)] for person in range(5)}
    for boxes in ("detected", "labeled"):
        for name in itertools.chain(*names.values()):
            paint(tmp_path / f"images_{boxes}" / name)
        splits = [
            {"train": [], "query": [[name, 0, 0] for p in tested for name in names[p]],
             "gallery": []}
            for tested in ((1,), (2, 3))
        ]  # fmt: skip
        (tmp_path / f"splits_classic_{boxes}.json").write_text(json.dumps(splits))
    return tmp_path


def test_by_what_is_in_it(market: Path) -> None:
    data, reading = read_as(None, market, quiet)
    assert len(data.query) == 2
    assert reading == Reading("market1501")
    assert str(reading) == "read as market1501"
    assert reading.to_dict() == {"format": "market1501", "prepared_from": None, "split": None}


def test_what_else_it_could_be(market: Path) -> None:
    (market / "labels.csv").touch()
    assert str(read_as(None, market, quiet)[1]) == "read as market1501 (or --as csv)"
    assert str(read_as("market1501", market, quiet)[1]) == "read as market1501"


def test_a_folder_of_no_known_layout(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "ann" / "1.png", 1)
    hint = "(no other layout fits; for another one: --as NAME)"
    assert str(read_as(None, tmp_path, quiet)[1]) == f"read as folders {hint}"
    assert str(read_as("folders", tmp_path, quiet)[1]) == "read as folders"
    for split in ("train", "query", "gallery"):
        paint(tmp_path / "flat" / split / "1@2_0001.png", 1)
    with pytest.raises(DataError) as refused:
        read_as(None, tmp_path / "flat", quiet)
    assert "no folder with images in it; expected one per identity" in str(refused.value)
    assert str(refused.value).endswith(f"; it was read as folders {hint}")
    with pytest.raises(DataError, match=r"expected one per identity$"):
        read_as("folders", tmp_path / "flat", quiet)


def test_the_classic_splits(cuhk03: Path) -> None:
    data, reading = read_as(CLASSIC, cuhk03, quiet)
    assert {image.person for image in data.query} == {1001}
    assert str(reading) == f"read as {CLASSIC}, split 0"
    data, reading = read_as(CLASSIC, cuhk03, quiet, split=1)
    assert {image.person for image in data.query} == {1002, 1003}
    assert reading.to_dict()["split"] == 1
    with pytest.raises(DataError, match="CUHK03 has no classic split 2; choose 0 to 1"):
        read_as(CLASSIC, cuhk03, quiet, split=2)


def test_a_split_of_a_set_that_has_one(market: Path) -> None:
    with pytest.raises(DataError, match="market1501 has no option 'split'"):
        read_as(None, market, quiet, split=0)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"data_set": "csv", "options": {}}, "read as market1501, prepared from csv"),
        ({"data_set": CLASSIC, "options": {"split": 7}}, f"prepared from {CLASSIC}, split 7"),
        ({"data_set": CLASSIC, "options": {}}, f"prepared from {CLASSIC}, split 0"),
        ({"data_set": "of another program"}, "read as market1501"),
    ],
)
def test_a_prepared_folder(market: Path, record: dict[str, object], said: str) -> None:
    (market / "prepared.json").write_text(json.dumps(record))
    assert str(read_as(None, market, quiet)[1]).endswith(said)
