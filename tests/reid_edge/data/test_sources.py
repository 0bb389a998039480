"""The data sets by name."""

from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers import READERS
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.sources import read_source, recognise_sources


def test_reading_by_name(market: Path) -> None:
    assert read_source("market1501", market) == read_market1501(market)


def test_an_option_reaches_the_reader(tmp_path: Path) -> None:
    for name in ("train/1/a.jpg", "val/2/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert len(read_source("folders", tmp_path, train_all=True).train) == 2


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"unknown data set 'market': did you mean 'market1501'\? known are market1501, ",
    ):
        read_source("market", tmp_path)
    with pytest.raises(DataError, match="unknown data set 'zzz': known are market1501"):
        read_source("zzz", tmp_path)


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="msmt17 has no option 'trainall': did you mean 'train_all'"
    ):
        read_source("msmt17", tmp_path, trainall=True)
    with pytest.raises(DataError, match="market1501 has no option 'split': it takes none"):
        read_source("market1501", tmp_path, split=1)
    with pytest.raises(DataError, match="cuhk03-detected has no option 'boxes'"):
        read_source("cuhk03-detected", tmp_path, boxes="labelled")


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("bounding_box_train/", "market1501"),
        ("Market-1501-v15.09.15/bounding_box_train/", "market1501"),
        ("bounding_box_test/", "market1501"),
        ("DukeMTMC-reID/bounding_box_train/", "dukemtmc-reid"),
        ("DukeMTMC-reID/bounding_box_test/", "dukemtmc-reid"),
        ("labeled/bounding_box_test/", "cuhk03-labelled"),
        ("list_train.txt", "msmt17"),
        ("MSMT17_V2/list_train.txt", "msmt17"),
        ("cuhk03_release/cuhk-03.mat", "cuhk03-detected"),
        ("images_labeled/", "cuhk03-labelled"),
        ("train.rec", "casia-webface"),
        ("labels.csv", "csv"),
        ("ann/1.jpg", "folders"),
    ],
)
def test_a_folder_is_recognised(tmp_path: Path, entry: str, name: str) -> None:
    path = tmp_path / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.endswith("/"):
        path.mkdir()
    else:
        path.touch()
    assert recognise_sources(tmp_path)[0] == name
    assert name in READERS


def test_what_a_folder_can_be_read_as(tmp_path: Path) -> None:
    for boxes in ("labeled", "detected"):
        (tmp_path / f"images_{boxes}").mkdir()
    assert recognise_sources(tmp_path) == ["cuhk03-detected", "cuhk03-labelled"]
    (tmp_path / "images_detected").rmdir()
    assert recognise_sources(tmp_path) == ["cuhk03-labelled"]


def test_a_csv_file_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    assert recognise_sources(tmp_path / "own.csv")[0] == "csv"


def test_nothing_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="looks like no data set that is known; name one of market"):
        recognise_sources(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        recognise_sources(tmp_path / "nowhere")
