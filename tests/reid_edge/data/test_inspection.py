"""The hash of a set is that of its names and contents, in any folder."""

import json
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.decoding import WholeImage, check_image
from reid_edge.data.inspection import inspect_data
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData


@pytest.fixture
def copied(tiny_market: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_market, tmp_path / "copy"))


def test_the_place_does_not_matter(tiny_market: Path, copied: Path) -> None:
    first, _ = inspect_data(read_market1501(tiny_market))
    os.utime(next((copied / "query").iterdir()))
    assert inspect_data(read_market1501(copied))[0] == first


def test_a_changed_image_changes_it(copied: Path) -> None:
    first, known = inspect_data(read_market1501(copied))
    one, other = sorted((copied / "query").iterdir())[:2]
    shutil.copy(one, other)
    os.utime(other)
    assert inspect_data(read_market1501(copied), known=known)[0] != first


def test_how_it_is_measured_changes_it(tiny_market: Path) -> None:
    data = read_market1501(tiny_market)
    others = (replace(data, has_cameras=False), replace(data, protocol="single_gallery_shot"))
    assert len({inspect_data(each)[0] for each in (data, *others)}) == 3


def test_a_renamed_or_removed_image_changes_it(copied: Path) -> None:
    first, known = inspect_data(read_market1501(copied))
    image = sorted((copied / "bounding_box_train").iterdir())[0]
    content = image.read_bytes()
    image.unlink()
    second, _ = inspect_data(read_market1501(copied), known=known)
    image.with_name(image.name.replace("_c1", "_c2")).write_bytes(content)
    third, _ = inspect_data(read_market1501(copied), known=known)
    assert len({first, second, third}) == 3


def test_known_images_are_not_read_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, known = inspect_data(read_market1501(copied))

    def refuse(*_: object) -> None:
        raise AssertionError("was read again")

    monkeypatch.setattr("reid_edge.data.inspection.check_image", refuse)
    assert inspect_data(read_market1501(copied), known=known) == (first, known)


def test_a_truncated_image_is_found(copied: Path) -> None:
    image = sorted((copied / "bounding_box_test").iterdir())[-1]
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=image.name):
        inspect_data(read_market1501(copied))


def test_a_part_of_a_large_set_is_decoded(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = read_market1501(copied)
    expected = inspect_data(data)
    decoded: list[Path] = []

    def count(path: Path) -> WholeImage:
        decoded.append(path)
        return check_image(path)

    monkeypatch.setattr("reid_edge.data.inspection.check_image", count)
    monkeypatch.setattr("reid_edge.data.decoded_share.MOST_DECODED", 10)
    monkeypatch.setattr("reid_edge.data.decoded_share.DECODED", 4)
    caplog.set_level("INFO")
    found, known = inspect_data(data)
    assert found == expected[0]
    apart = -(-len(data.images()) // 4)
    assert sorted(decoded) == sorted(image.path for image in data.images()[::apart])
    assert f"of {len(data.images())} images one of {apart} is decoded" in caplog.text
    # Images that were not decoded are decoded once the set is small enough.
    decoded.clear()
    assert inspect_data(data, known=known) == (found, known)
    assert decoded == []
    monkeypatch.setattr("reid_edge.data.decoded_share.MOST_DECODED", 10_000)
    assert inspect_data(data, known=known) == expected
    assert sorted(decoded) == sorted(
        image.path for number, image in enumerate(data.images()) if number % apart
    )
    decoded.clear()
    assert inspect_data(data, known=expected[1]) == expected
    assert decoded == []

    monkeypatch.setattr("reid_edge.data.decoded_share.MOST_DECODED", 10)
    last = data.images()[-1].path
    assert last not in {image.path for image in data.images()[::apart]}
    last.write_bytes(last.read_bytes()[:-20])
    with pytest.raises(DataError, match=last.name):
        inspect_data(data)


def test_an_image_that_has_gone_is_named(copied: Path) -> None:
    data = read_market1501(copied)
    data.query[0].path.unlink()
    with pytest.raises(DataError, match=rf"{data.query[0].path.name}: no such image"):
        inspect_data(data)


def test_progress_counts_every_image(copied: Path) -> None:
    data, calls = read_market1501(copied), []
    inspect_data(data, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(data.images()), len(data.images()))


def test_a_tab_in_a_name(copied: Path) -> None:
    first, _ = inspect_data(read_market1501(copied))
    moved = copied.rename(copied.with_name("a\tb"))
    assert inspect_data(read_market1501(moved))[0] == first


def naive_hash(data: ReidData) -> str:
    table: list[object] = [
        [[i.path.name, i.person, i.camera, sha256(i.path.read_bytes()).hexdigest()] for i in split]
        for split in (data.train, data.query, data.gallery)
    ]
    if data.protocol != "market1501" or not data.has_cameras:
        table.append([data.protocol, data.has_cameras])
    return sha256(json.dumps(table).encode()).hexdigest()


def test_the_hash_is_that_of_one_json_text(tiny_market: Path) -> None:
    data = read_market1501(tiny_market)
    for each in (data, replace(data, has_cameras=False), replace(data, train=(), query=())):
        assert inspect_data(each)[0] == naive_hash(each)
