"""The Market-1501 layout, and what is said when it is not there."""

import os
import shutil
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import check_evaluable, check_trainable
from reid_edge.data.sources import recognise_sources

FILES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0007_c3s3_077419_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0001_c2s1_000976_02.jpg", "Thumbs.db",
    ],
}  # fmt: skip


@pytest.fixture
def market(tmp_path: Path) -> Path:
    for folder, names in FILES.items():
        (tmp_path / "set" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "set" / folder / name).touch()
    return tmp_path / "set"


def test_persons_and_cameras(market: Path) -> None:
    data = read_market1501(market)
    assert [(p.person, p.camera) for p in data.train] == [(2, 1), (7, 3)]
    assert [(p.person, p.camera) for p in data.query] == [(1, 1)]
    # Junk (-1) is dropped, distractors (0) stay, foreign files are not looked at.
    assert [(p.person, p.camera) for p in data.gallery] == [(0, 1), (1, 2)]


@pytest.mark.parametrize("wrapping", ["Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15"])
def test_wrapping_folders(market: Path, tmp_path: Path, wrapping: str) -> None:
    target = tmp_path / "root" / wrapping
    target.parent.mkdir(parents=True)
    market.rename(target)
    assert read_market1501(tmp_path / "root").root == target


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_market1501(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"no folder 'bounding_box_train' in it.*Market-1501 layout"
    ):
        read_market1501(tmp_path)


def test_a_missing_or_empty_split(market: Path) -> None:
    (market / "query" / FILES["query"][0]).unlink()
    with pytest.raises(DataError, match="query: no images in it"):
        read_market1501(market)
    (market / "query").rmdir()
    with pytest.raises(DataError, match="query: no such folder"):
        read_market1501(market)


@pytest.mark.parametrize("wrapping", ["", "Market-1501-v15.09.15"])
def test_a_test_set_alone(market: Path, tmp_path: Path, wrapping: str) -> None:
    whole = read_market1501(market)
    shutil.rmtree(market / "bounding_box_train")
    target = tmp_path / "root" / wrapping
    target.parent.mkdir(parents=True, exist_ok=True)
    market.rename(target)
    assert recognise_sources(tmp_path / "root")[0] == "market1501"
    data = read_market1501(tmp_path / "root")
    assert data.train == ()
    for found, expected in ((data.query, whole.query), (data.gallery, whole.gallery)):
        assert [p.path.name for p in found] == [p.path.name for p in expected]
    check_evaluable(data)
    with pytest.raises(DataError, match=r"no training images, .* with: reid-edge evaluate"):
        check_trainable(data)


def test_an_empty_training_set_is_refused(market: Path) -> None:
    for path in (market / "bounding_box_train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="bounding_box_train: no images in it"):
        read_market1501(market)


def test_a_name_that_cannot_be_read(market: Path) -> None:
    (market / "query" / "portrait.jpg").touch()
    with pytest.raises(DataError, match=r"portrait.jpg: cannot read person and camera"):
        read_market1501(market)


def test_no_query_with_a_match(market: Path) -> None:
    check_evaluable(read_market1501(market))
    gallery = market / "bounding_box_test"
    (gallery / "0001_c2s1_000976_02.jpg").rename(gallery / "0001_c1s1_000976_02.jpg")
    with pytest.raises(DataError, match="no query has a match on another camera: all images have"):
        check_evaluable(read_market1501(market))
    (gallery / "0001_c1s1_000976_02.jpg").rename(gallery / "0009_c2s1_000976_02.jpg")
    with pytest.raises(DataError, match="do not meet on different cameras"):
        check_evaluable(read_market1501(market))


def test_the_protocol_that_is_noted(market: Path) -> None:
    assert read_market1501(market).protocol == "market1501"
    record = market / "prepared.json"
    record.write_text('{"protocol": "single_gallery_shot"}')
    assert read_market1501(market).protocol == "single_gallery_shot"
    record.write_text('{"protocol": "two_shots"}')
    with pytest.raises(
        DataError,
        match=r"prepared\.json: unknown protocol 'two_shots', known are market1501, .* again",
    ):
        read_market1501(market)
    # Of no program that is known here; Market-1501's protocol is the layout's own.
    record.write_text("[1]")
    assert read_market1501(market).protocol == "market1501"


def test_where_it_is_from_cannot_be_read(market: Path) -> None:
    record = market / "prepared.json"
    record.write_text("[" * 100_000)
    assert read_market1501(market).protocol == "market1501"
    record.unlink()
    os.mkfifo(record)
    with pytest.raises(DataError, match=r"prepared\.json: is a FIFO; expected a file"):
        read_market1501(market)
