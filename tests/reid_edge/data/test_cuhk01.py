"""CUHK01: the splits of its protocol, torchreid's own, and everybody as a training set."""

import json
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.identities import merge_training
from reid_edge.data.readers.cuhk01 import CUHK01, read_cuhk01
from reid_edge.data.schema import Counts, ReidData, Sample, check_evaluable, relabel
from reid_edge.data.sources import read_source, recognise_sources


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 3,884 names of the data set, without content."""
    root = tmp_path_factory.mktemp("CUHK01")
    (root / "campus").mkdir()
    for person in range(1, 972):
        for number in (1, 2, 3, 4):
            (root / "campus" / f"{person:04d}{number:03d}.png").touch()
    return root


def folder(tmp_path: Path, persons: int = 4) -> Path:
    (tmp_path / "campus").mkdir()
    for person in range(1, persons + 1):
        for number in (1, 2, 3, 4):
            (tmp_path / "campus" / f"{person:04d}{number:03d}.png").touch()
    return tmp_path


def test_the_splits(whole: Path) -> None:
    data = read_cuhk01(whole)
    assert Counts.of(data) == Counts(1940, 485, 972, 486, 972)
    assert CUHK01.differing_counts(Counts.of(data)) is None
    check_evaluable(data)
    assert {image.camera for image in data.query} == {1}
    assert {image.camera for image in data.gallery} == {2}
    assert not {i.person for i in data.train} & {i.person for i in (*data.query, *data.gallery)}
    assert data.protocol == "market1501"
    # The same division, with the cameras the other way round; then another division.
    other = read_cuhk01(whole, split=1)
    assert (other.train, other.query, other.gallery) == (data.train, data.gallery, data.query)
    assert read_cuhk01(whole, split=2).train != data.train
    assert read_cuhk01(whole) == data
    assert len({read_cuhk01(whole, split=split).train for split in range(0, 20, 2)}) == 10


def test_the_cameras(tmp_path: Path) -> None:
    images = read_cuhk01(folder(tmp_path, 2), train_all=True).train
    assert [(i.path.name, i.person, i.camera) for i in images[:5]] == [
        ("0001001.png", 1, 1), ("0001002.png", 1, 1), ("0001003.png", 1, 2), ("0001004.png", 1, 2),
        ("0002001.png", 2, 1),
    ]  # fmt: skip


def test_the_training_identities_of_the_lpcv_recipe(whole: Path) -> None:
    everybody = read_source("cuhk01", whole, train_all=True)
    assert Counts.of(everybody) == Counts(3884, 971)
    assert CUHK01.differing_counts(Counts.of(everybody)) is None

    def trained(name: str, identities: int) -> ReidData:
        images = tuple(Sample(Path(f"{name}{p}.jpg"), p, 1) for p in range(1, identities + 1))
        return ReidData(Path(name), images, (), ())

    market, duke = trained("market", 751), trained("duke", 702)
    merged = merge_training([market, duke, everybody], market)
    assert Counts.of(merged) == Counts(751 + 702 + 3884, 751 + 702 + 971)
    assert sorted(set(relabel(merged.train))) == list(range(2424))


@pytest.mark.parametrize("wrapping", ["", "cuhk01", "CUHK01", "campus"])
def test_where_the_images_may_be(tmp_path: Path, wrapping: str) -> None:
    root = folder(tmp_path)
    if wrapping == "campus":
        assert read_cuhk01(root / "campus").root == root / "campus"
        assert recognise_sources(root / "campus")[0] == "cuhk01"
        return
    if wrapping:
        (root / wrapping).mkdir()
        (root / "campus").rename(root / wrapping / "campus")
    assert read_cuhk01(root).root == root / wrapping
    assert recognise_sources(root)[0] == "cuhk01"


def test_torchreids_splits(tmp_path: Path) -> None:
    root = folder(tmp_path)
    names = [f"{person:04d}{number:03d}.png" for person in (1, 2, 3, 4) for number in (1, 2, 3, 4)]
    # Its numbers of people and cameras begin at 0, and those for training are numbered anew.
    split = {
        "train": [[f"/home/x/campus/{name}", 0, 0] for name in names[8:]],
        "query": [[f"C:\\x\\{name}", 3, 0] for name in (names[0], names[4])],
        "gallery": [[name, 3, 1] for name in (names[2], names[6])],
    }
    (root / "splits.json").write_text(json.dumps([split]))
    data = read_cuhk01(root)
    assert {image.person for image in data.train} == {3, 4}
    assert [(i.path.name, i.person, i.camera) for i in data.query] == [
        (names[0], 1, 1), (names[4], 2, 1),
    ]  # fmt: skip
    assert [(image.person, image.camera) for image in data.gallery] == [(1, 2), (2, 2)]
    with pytest.raises(DataError, match="CUHK01 has no split 1; choose 0 to 0"):
        read_cuhk01(root, split=1)
    (root / "campus" / names[2]).unlink()
    with pytest.raises(DataError, match=r"0001003\.png: no such image, but splits.json lists it"):
        read_cuhk01(root)
    (root / "splits.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="cannot be read as torchreid's splits of CUHK01"):
        read_cuhk01(root)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected CUHK01: campus with images such as 0001001.png"):
        read_cuhk01(tmp_path)
    root = folder(tmp_path)
    with pytest.raises(DataError, match="CUHK01 has no split 20; choose 0 to 19"):
        read_cuhk01(root, split=20)
    (root / "campus" / "0001005.png").touch()
    with pytest.raises(DataError, match=r"0001005\.png: is no image of CUHK01; expected a name"):
        read_cuhk01(root)


def test_options_of_another_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cuhk01: option train_all is 'yes'; expected true or fals"):
        read_source("cuhk01", tmp_path, train_all="yes")
    with pytest.raises(DataError, match="cuhk01: option split is True; expected a value such as 0"):
        read_source("cuhk01", tmp_path, split=True)
