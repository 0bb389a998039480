"""Three layouts of images to enrol, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.inference.enrolment import read_gallery_folder

Paint = Callable[..., Path]


def names(folder: Path) -> list[tuple[str, str]]:
    return [(p.path.relative_to(folder).as_posix(), p.person) for p in read_gallery_folder(folder)]


def test_folder_per_person(tmp_path: Path, paint: Paint) -> None:
    for name in (
        "bob/2.jpg",
        "ann/1.png",
        "bob/1.jpg",
        "-1/junk.jpg",
        "00-1/j.jpg",
        ".cache/x.jpg",
    ):
        paint(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "nobody").mkdir()
    assert names(tmp_path) == [("ann/1.png", "ann"), ("bob/1.jpg", "bob"), ("bob/2.jpg", "bob")]


def test_market1501_names(tmp_path: Path, paint: Paint) -> None:
    for name in ("0002_c1s1_1_00.jpg", "0002_c2s1_1_00.jpg", "-1_c1s1_1.jpg", "0000_c1s1_1.jpg"):
        paint(tmp_path / name)
    assert names(tmp_path) == [("0002_c1s1_1_00.jpg", "0002"), ("0002_c2s1_1_00.jpg", "0002")]


def test_names_of_persons(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "ann.lee.jpg")
    paint(tmp_path / "bob.png")
    assert names(tmp_path) == [("ann.lee.jpg", "ann.lee"), ("bob.png", "bob")]


def test_folders_that_are_no_data(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "ann.jpg")
    for name in ("@eaDir/ann.jpg/thumb.jpg", "@eaDir/thumb.jpg", "__MACOSX/ann.jpg"):
        paint(tmp_path / name)
    assert names(tmp_path) == [("ann.jpg", "ann")]


def test_a_folder_named_as_an_image_is_a_persons(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "ann.jpg" / "1.jpg")
    paint(tmp_path / "ann.jpg" / "@eaDir" / "1.jpg" / "thumb.jpg")
    assert names(tmp_path) == [("ann.jpg/1.jpg", "ann.jpg")]


def test_images_in_a_folder_within_a_persons_are_refused(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "ann" / "1.jpg")
    paint(tmp_path / "ann" / "old" / "2.jpg")
    message = r"ann/old: has images and is not read, being a folder within .* 'ann'; put the ima"
    with pytest.raises(DataError, match=message):
        read_gallery_folder(tmp_path)


@pytest.mark.parametrize("name", ["nan/1.jpg", "None.jpg"])
def test_a_missing_value_is_no_person(tmp_path: Path, paint: Paint, name: str) -> None:
    paint(tmp_path / name)
    with pytest.raises(
        DataError, match=rf"/{name}: '\w+' is a missing value and no person; rename"
    ):
        read_gallery_folder(tmp_path)


def test_refused(tmp_path: Path, paint: Paint, market: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_gallery_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"a whole data set; give one of .*/bounding_box_test$"):
        read_gallery_folder(market)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no images of anybody in it"):
        read_gallery_folder(empty)
    paint(empty / "-1_c1s1_000451_03.jpg")
    with pytest.raises(DataError, match="no images of anybody in it"):
        read_gallery_folder(empty)
    paint(empty / "ann.jpg")
    with pytest.raises(DataError, match=r"some names are Market.*, as -1_c1.*, as ann\.jpg"):
        read_gallery_folder(empty)
    paint(empty / "bob" / "1.jpg")
    with pytest.raises(DataError, match="images beside folders with images"):
        read_gallery_folder(empty)
