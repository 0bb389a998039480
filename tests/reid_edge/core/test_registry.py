"""Declarations by name."""

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from reid_edge.core.errors import DataError
from reid_edge.core.registry import Registry


@pytest.fixture
def sizes() -> Registry[object]:
    entries = {"small": 1, "large": "colorsys:ONE_THIRD"}
    return Registry("size", "reid_edge.sizes", entries, error=DataError)


def test_objects_and_what_is_imported_when_asked_for(sizes: Registry[object]) -> None:
    sys.modules.pop("colorsys", None)
    assert list(sizes) == ["small", "large"]
    assert "large" in sizes
    assert "colorsys" not in sys.modules
    assert sizes.load("small") == 1
    assert sizes.load("large") == pytest.approx(1 / 3)
    assert dict(sizes.items()) == {"small": 1, "large": 1 / 3}


def test_an_unknown_name_is_reported_with_the_nearest(sizes: Registry[object]) -> None:
    with pytest.raises(
        DataError, match=r"^unknown size 'smal': did you mean 'small'\? known are small, large$"
    ):
        sizes.load("smal")
    with pytest.raises(DataError, match=r"^unknown size 'xyz': known are small, large$"):
        sizes.check("xyz")


def test_a_declaration_has_the_name_that_it_is_registered_by(sizes: Registry[object]) -> None:
    sizes.register("huge", SimpleNamespace(name="vast"))
    with pytest.raises(DataError, match=r"^size 'huge' calls itself 'vast'; register it by that"):
        sizes.load("huge")


def test_adding_and_removing(sizes: Registry[object]) -> None:
    sizes.register("huge", 3)
    assert sizes.load("huge") == 3
    with pytest.raises(DataError, match="size 'huge' is registered already"):
        sizes.register("huge", 4)
    sizes.unregister("huge")
    assert "huge" not in sizes


def test_what_cannot_be_imported_is_named() -> None:
    broken: Registry[object] = Registry("size", "reid_edge.sizes", {"a": "no_such_module:X"})
    with pytest.raises(ValueError, match=r"size 'a': cannot import no_such_module:X \(No module"):
        broken.load("a")


def test_installed_packages_add_entries(
    sizes: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("tiny", "colorsys:ONE_SIXTH", "reid_edge.sizes")
    monkeypatch.setattr("reid_edge.core.registry.installed_points", lambda: (point,))
    assert list(sizes) == ["small", "large", "tiny"]
    assert sizes.load("tiny") == pytest.approx(1 / 6)
    with pytest.raises(DataError, match="size 'tiny' is registered already"):
        sizes.register("tiny", 4)
