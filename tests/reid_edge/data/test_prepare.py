"""From an archive or a folder to the Market-1501 layout."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.data.prepare import layout, prepare
from reid_edge.data.readers import READERS
from reid_edge.data.readers.market1501 import MARKET1501, read_market1501
from reid_edge.data.schema import Counts, ReidData
from reid_edge.data.sources import read_source, recognise_sources

Paint = Callable[..., Path]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "out"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny set be what was published."""
    tiny = replace(MARKET1501, counts=(Counts(4, 2, 2, 2, 3),))
    monkeypatch.setitem(READERS._entries, "market1501", tiny)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def labels(data: ReidData) -> list[tuple[int, int]]:
    return [(image.person, image.camera) for image in data.images()]


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("kind", ["folder", "zip", "gztar"])
def test_market_keeps_its_names(market: Path, target: Path, kind: str) -> None:
    source, before = market, names(market)
    if kind != "folder":
        made = shutil.make_archive(str(market.parent / "a"), kind, market.parent, market.name)
        source = Path(made)
    data = prepare("market1501", source, target)
    junk = "bounding_box_test/-1_c1s1_000010_00.jpg"
    assert names(target) == sorted({*before, "prepared.json"} - {junk})
    assert data == read_market1501(target)
    for image in data.images():
        original = market / image.path.relative_to(target)
        assert image.path.read_bytes() == original.read_bytes()
        assert not image.path.samefile(original)
    # Nothing of the unpacking is left, and the source is as it was.
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    assert names(market) == before


@pytest.mark.usefixtures("published")
def test_what_is_noted(market: Path, target: Path) -> None:
    prepare("market1501", market, target)
    record = json.loads((target / "prepared.json").read_text())
    assert record["data_set"] == "market1501"
    assert record["protocol"] == "market1501"
    assert record["counts"]["gallery"] == 3


@pytest.mark.usefixtures("published")
def test_preparing_twice(market: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = prepare("market1501", market, target)
    with caplog.at_level(logging.INFO):
        assert prepare("market1501", market, target) == first
    assert "is prepared already" in caplog.text
    with pytest.raises(DataError, match="out: holds something else; remove it or give another"):
        prepare("market1501", market, target, max_ids=2)


@pytest.mark.usefixtures("published")
def test_preparing_again_from_another_source(market: Path, target: Path) -> None:
    prepare("market1501", market, target)
    message = rf"out: holds what was prepared from {market}; choose another --to"
    for other in (market.parent, None):
        with pytest.raises(DataError, match=message):
            prepare("market1501", other, target)


@pytest.mark.usefixtures("published")
def test_preparing_again_from_an_archive(market: Path, target: Path) -> None:
    archive = Path(shutil.make_archive(str(market.parent / "a"), "zip", market))
    first = prepare("market1501", archive, target)
    os.utime(archive, ns=(0, 0))
    with pytest.raises(DataError, match=r"from .*a\.zip before that file changed; choose another"):
        prepare("market1501", archive, target)
    # An archive need not be kept once it is prepared.
    archive.unlink()
    assert prepare("market1501", archive, target) == first


@pytest.mark.usefixtures("published")
def test_a_file_of_an_earlier_version(market: Path, target: Path) -> None:
    first = prepare("market1501", market, target)
    record = json.loads((target / "prepared.json").read_text())
    del record["source"], record["source_counts"]
    (target / "prepared.json").write_text(json.dumps(record))
    assert prepare("market1501", Path("nowhere"), target) == first


def test_a_target_that_is_somebodys(market: Path, target: Path) -> None:
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="out: holds something else"):
        prepare("market1501", market, target)
    assert names(target) == ["mine.txt"]


def test_other_counts(market: Path, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        DataError,
        match=r"market1501 has 12,936 training images of 751 identities, 3,368 queries of 750, "
        "15,913 gallery images; found 4 training images of 2 identities, 2 queries of 2, 3 "
        r"gallery images; is the copy whole\? --allow-other-counts takes it as it is",
    ):
        prepare("market1501", market, target)
    assert not target.exists()
    prepare("market1501", market, target, allow_other_counts=True)
    assert "found 4 training images" in caplog.text
    with pytest.raises(DataError, match=r"found 4 training .*; is the copy whole\?"):
        prepare("market1501", market, target)
    assert prepare("market1501", market, target, allow_other_counts=True).root == target


def test_the_counts_that_were_published(market: Path) -> None:
    data = read_market1501(market)
    assert Counts.of(data) == Counts(4, 2, 2, 2, 3)
    found = Counts.of(data)
    assert READERS.load("csv").differing_counts(found) is None
    assert "of 10,575 identities or 490,623" in str(
        READERS.load("casia-webface").differing_counts(found)
    )


@pytest.mark.usefixtures("published")
def test_the_first_identities(paint: Paint, market: Path, target: Path) -> None:
    paint(market / "bounding_box_train" / "0009_c1s1_000011_00.jpg")
    data = prepare("market1501", market, target, max_ids=2, allow_other_counts=True)
    assert {image.person for image in data.train} == {2, 7}
    # Distractors go as well.
    assert {image.person for image in data.gallery} == {1, 5}
    with pytest.raises(DataError, match="max_ids 1: keep 2 identities or more"):
        prepare("market1501", market, target, max_ids=1)


def test_a_set_without_test_set_gets_one(paint: Paint, tmp_path: Path, target: Path) -> None:
    for person in range(20):
        for image in range(3):
            paint(tmp_path / "faces" / f"p{person:02d}" / f"{image}.pgm", 3 * person + image)
    data = prepare("folders", tmp_path / "faces", target)
    assert Counts.of(data) == Counts(54, 18, 2, 2, 4)
    assert data.query[0].path.name.endswith("s1_000000_00.png")
    with Image.open(data.query[0].path) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (4, 8), "RGB")
    # The names have stand-ins; what is written beside them says so.
    assert not data.has_cameras
    # Sources are numbered from 1: in Market-1501, 0 are distractors.
    assert min(image.person for image in data.images()) == 1


@pytest.mark.parametrize(("persons", "tested"), [(2, 1), (3, 1), (4, 2), (12, 2), (31, 3)])
def test_two_of_a_few_are_tested_on(
    paint: Paint, tmp_path: Path, target: Path, persons: int, tested: int
) -> None:
    for person in range(persons):
        for image in range(2):
            paint(tmp_path / "faces" / f"p{person:02d}" / f"{image}.png", 2 * person + image)
    data = prepare("folders", tmp_path / "faces", target)
    assert (Counts.of(data).query_identities, Counts.of(data).train_identities) == (
        tested, persons - tested,
    )  # fmt: skip


def test_person_zero_is_no_distractor(paint: Paint, tmp_path: Path, target: Path) -> None:
    for split, camera in (("train", 1), ("query", 1), ("gallery", 2)):
        for person in (0, 1):
            paint(tmp_path / "own" / split / str(person) / f"c{camera}.jpg", camera)
    data = prepare("folders", tmp_path / "own", target)
    assert labels(data) == [(1, 1), (2, 1), (1, 1), (2, 1), (1, 2), (2, 2)]
    assert data.train[0].path.name == "0001_c1s1_000000_00.jpg"


def test_a_list(paint: Paint, tmp_path: Path, target: Path) -> None:
    lines = ["img_path,person_id,camera_id"]
    for person in "abcd":
        for camera in (1, 2):
            paint(tmp_path / "own" / f"{person}{camera}.png", camera)
            lines.append(f"{person}{camera}.png,{person},{camera}")
    (tmp_path / "own" / "all.csv").write_text("\n".join(lines))
    data = prepare("csv", tmp_path / "own" / "all.csv", target)
    assert Counts.of(data) == Counts(4, 2, 2, 2, 2)
    assert data.has_cameras


def test_options_reach_the_reader(paint: Paint, tmp_path: Path, target: Path) -> None:
    for name in ("train/1", "val/2", "query/3", "gallery/3"):
        for camera in (1, 2):
            paint(tmp_path / "own" / name / f"c{camera}.jpg")
    data = prepare("folders", tmp_path / "own", target, options={"train_all": True})
    assert {image.person for image in data.train} == {1, 2}


@pytest.mark.usefixtures("published")
def test_from_kaggle(market: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = market.parent / "cache" / "versions" / "1"
    wrapped.mkdir(parents=True)
    shutil.copytree(market, wrapped / "Market-1501-v15.09.15")
    monkeypatch.setattr(layout, "fetch_from_kaggle", lambda _name: wrapped.parent.parent)
    assert Counts.of(prepare("market1501", None, target)) == Counts(4, 2, 2, 2, 3)
    assert (wrapped / "Market-1501-v15.09.15" / "query").is_dir()


@pytest.mark.usefixtures("published")
def test_a_source_that_fails_leaves_nothing(market: Path, target: Path) -> None:
    (market / "query" / "portrait.jpg").touch()
    archive = Path(shutil.make_archive(str(market.parent / "a"), "zip", market))
    with pytest.raises(
        DataError, match=r"portrait.jpg: cannot read person and camera off the name"
    ):
        prepare("market1501", archive, target)
    assert not list(target.parent.iterdir())


def test_images_that_cannot_be_converted(paint: Paint, tmp_path: Path, target: Path) -> None:
    for person in "abc":
        paint(tmp_path / "own" / person / "1.pgm")
        paint(tmp_path / "own" / person / "2.pgm")
    (tmp_path / "own" / "b" / "2.pgm").write_bytes(b"P5 broken")
    with pytest.raises(DataError, match=r"b/2.pgm: cannot be decoded \(.*replace the file or remo"):
        prepare("folders", tmp_path / "own", target)
    (tmp_path / "own" / "b" / "2.pgm").write_bytes(b"P5 1 1 65535 ab")
    with pytest.raises(DataError, match=r"b/2.pgm: 16-bit and float images cannot be used"):
        prepare("folders", tmp_path / "own", target)
    assert not list(target.parent.iterdir())


def test_into_the_working_folder(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.make_archive(str(tmp_path / "a"), "zip", market.parent, market.name))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for target in (Path(), tmp_path / "empty", Path("../empty")):
        for given in (market, source):
            with pytest.raises(DataError) as caught:
                prepare("market1501", given, target, allow_other_counts=True)
            message = f"{target}: is the working folder; name a new folder in it"
            assert str(caught.value) == message
    assert not list((tmp_path / "empty").iterdir())


def test_an_image_too_large_to_convert(
    paint: Paint, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person in "abc":
        for number in (1, 2):
            paint(tmp_path / "own" / person / f"{number}.pgm")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"\.pgm: cannot be decoded \(Image size .* exceeds limit"):
        prepare("folders", tmp_path / "own", target)


def test_sources_that_are_not_there(market: Path, tmp_path: Path, target: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.zip: no such archive or folder"):
        prepare("market1501", tmp_path / "nowhere.zip", target)
    (tmp_path / "a.rar").touch()
    with pytest.raises(DataError, match=r"a.rar: no archive that is known"):
        prepare("market1501", tmp_path / "a.rar", target)
    with pytest.raises(DataError, match="unknown data set 'market'"):
        prepare("market", market, target)


def test_nothing_to_train_on(paint: Paint, tmp_path: Path, target: Path) -> None:
    paint(tmp_path / "own" / "query" / "1" / "c1.jpg")
    paint(tmp_path / "own" / "gallery" / "1" / "c2.jpg")
    with pytest.raises(DataError, match="own: no images to train on"):
        prepare("folders", tmp_path / "own", target)


def test_a_place_that_cannot_be_written(market: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/out: cannot be written"):
        prepare("market1501", market, tmp_path / "file" / "out", allow_other_counts=True)


def test_the_classic_protocol_is_kept(paint: Paint, tmp_path: Path, target: Path) -> None:
    folder = tmp_path / "cuhk03" / "images_detected"
    files = ["1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png", "1_002_2_06.png"]
    for shade, name in enumerate(files):
        paint(folder / name, shade)
    test = [[name, 0, 0] for name in files[2:]]
    splits = [{"train": [], "query": test, "gallery": test}]
    (folder.parent / "splits_classic_detected.json").write_text(json.dumps(splits))
    data = prepare("cuhk03-classic-detected", folder.parent, target, options={"split": 0})
    assert labels(data) == [(1001, 1), (1001, 2), (1002, 1), (1002, 2), (1002, 1), (1002, 2)]
    assert data.protocol == "single_gallery_shot"
    assert read_source(recognise_sources(target)[0], target) == data


@pytest.mark.parametrize("wrapping", ["", "CUHK03-NP"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_one_kind_of_boxes_alone(
    paint: Paint, tmp_path: Path, target: Path, wrapping: str, kind: str
) -> None:
    source = tmp_path / "source"
    for name in ("bounding_box_train/0001_c1", "query/0002_c1", "bounding_box_test/0002_c2"):
        paint(source / wrapping / "labeled" / f"{name}_1.png")
    if kind == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "a"), "zip", source))
    data = prepare("cuhk03-labelled", source, target, allow_other_counts=True)
    assert labels(data) == [(1, 1), (2, 1), (2, 2)]
