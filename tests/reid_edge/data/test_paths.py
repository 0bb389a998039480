"""Paths from data files: nothing leads out of the folder."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_edge.core.errors import DataError
from reid_edge.data.paths import (
    ImageFinder,
    expand_home,
    find_base,
    image_inside,
    images_within,
    list_images,
    path_order,
    relative_path,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/etc/passwd", "list line 3: the path '/etc/passwd' is absolute; it must be relative"),
        ("C:\\a.jpg", r"the path 'C:\\a.jpg' is absolute"),
        ("\\\\host\\a.jpg", "is absolute"),
        ("../a.jpg", "the path '../a.jpg' climbs out of the folder with '..'"),
        ("a\\..\\..\\b.jpg", "climbs out of the folder"),
        ("a/../b.jpg", "climbs out of the folder"),
        ("", "'' is no path"),
        (".", "'.' is no path"),
        ("a\0b.jpg", "is no path"),
    ],
)
def test_paths_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason) if "C:" not in text else "is absolute"):
        relative_path(text, "list line 3")


@given(st.text(alphabet="ab./\\:", max_size=12))
def test_what_is_accepted_stays_inside(text: str) -> None:
    try:
        path = relative_path(text, "list")
    except DataError:
        return
    assert ".." not in path.parts
    assert not path.is_absolute()


def test_an_image_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").touch()
    assert image_inside(tmp_path, "a\\b.jpg", "list") == tmp_path / "a" / "b.jpg"
    with pytest.raises(DataError, match=r"list: no such image: 'a/c.jpg'"):
        image_inside(tmp_path, "a/c.jpg", "list")
    with pytest.raises(DataError, match="list: 'a' is no image file"):
        image_inside(tmp_path, "a", "list")


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "root" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match=r"'a.jpg' leads out of .*root by a symbolic link"):
        image_inside(tmp_path / "root", "a.jpg", "list")
    (tmp_path / "root" / "loop.jpg").symlink_to(tmp_path / "root" / "loop.jpg")
    with pytest.raises(DataError, match="no such image"):
        image_inside(tmp_path / "root", "loop.jpg", "list")


def test_a_link_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").touch()
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    assert image_inside(tmp_path, "a.jpg", "list") == tmp_path / "a.jpg"


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and links of every kind."""
    root = tmp_path_factory.mktemp("linked").resolve() / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root.parent / "out").mkdir()
    for path in ("a/a", "a/b/b", "ab", "../out/a"):
        (root / path).touch()
    (root / "b").symlink_to(root / "a")
    (root / "bb").symlink_to(root.parent / "out")
    (root / "a" / "aa").symlink_to(root / "ab")
    (root / "a" / "bb").symlink_to(root.parent / "out" / "a")
    (root / "aa").symlink_to(root / "aa")
    return root


@given(st.lists(st.text(alphabet="ab./\\", max_size=7), min_size=1, max_size=8))
def test_a_finder_finds_and_refuses_the_same(linked: Path, texts: list[str]) -> None:
    def result(find: Callable[[], Path]) -> Path | str:
        try:
            return find()
        except DataError as error:
            return str(error)

    finder = ImageFinder(linked)
    for text in [*texts, "a/a", "b/b/b", "bb/a", "a/aa", "a/bb", "aa", "/ab", "a/b", "C:a", "a/\0"]:
        expected = result(lambda text=text: image_inside(linked, text, "list"))  # type: ignore[misc]
        assert result(lambda text=text: finder.find(text, "list")) == expected  # type: ignore[misc]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    root, other = tmp_path / "site", tmp_path / "cam2"
    for folder in (root / "cam1", other / "day1", root / "cam3"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (root / "cam2").symlink_to(other)
    # Each of these leads to what is read already.
    (root / "again").symlink_to("cam1")
    (root / "whole").symlink_to(root)
    (other / "loop").symlink_to(other)
    (other / "home").symlink_to(root)
    (root / "a").symlink_to(other / "day1")
    (root / ".store" / "cam4").mkdir(parents=True)
    (root / ".store" / "cam4" / "a.jpg").touch()
    (root / "cam4").symlink_to(".store/cam4")
    found = [path.relative_to(root).as_posix() for path in images_within(root)]
    assert found == ["a/a.jpg", "cam1/a.jpg", "cam3/a.jpg", "cam4/a.jpg"]
    (root / "around").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"around: is a link to .*, which holds .*; take it out"):
        images_within(root)


@given(st.lists(st.text(alphabet="aB./!é", max_size=8)))
def test_the_order_of_paths(texts: list[str]) -> None:
    paths = [Path("/set", text.lstrip("/")) for text in texts]
    assert sorted(paths, key=path_order) == sorted(paths)


def test_the_base_is_found_in_its_wrapping(tmp_path: Path) -> None:
    (tmp_path / "wrapped" / "mark").mkdir(parents=True)

    def has_mark(folder: Path) -> bool:
        return (folder / "mark").is_dir()

    assert find_base(tmp_path, ["wrapped"], has_mark, "a mark") == tmp_path / "wrapped"
    with pytest.raises(DataError, match="expected a mark"):
        find_base(tmp_path, ["other"], has_mark, "a mark")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_base(tmp_path / "nowhere", [], has_mark, "a mark")


def test_images_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "._a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]


def test_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home(Path("~/set")) == tmp_path / "set"
    assert expand_home(Path("a/~b")) == Path("a/~b")
    with pytest.raises(DataError, match="'~nobody-here' is the home of nobody here; write the"):
        expand_home(Path("~nobody-here/set"))
