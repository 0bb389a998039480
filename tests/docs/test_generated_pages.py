"""Pages that are made from the code are those of the code."""

import re
from pathlib import Path

import pytest

from docs.generate import DOCS, ROOT, settings_page
from docs.generate import pages as make_pages
from pipeline.config import config_class
from pipeline.settings_io import load_config, setting_keys

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    return make_pages()


def test_pages_are_up_to_date(pages: dict[Path, str]) -> None:
    assert DOCS / "reference" / "settings.md" in pages
    for path, content in pages.items():
        named = path.relative_to(ROOT)
        assert path.read_text() == content, f"{named}: run python -m docs.generate"


def test_every_setting_is_on_the_page() -> None:
    page = settings_page()
    for key in setting_keys():
        assert f"| `{key}` |" in page


def test_a_setting_given_its_default_changes_nothing(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([a-z_.0-9]+)` \| `(.*?)` \|", settings_page(), re.MULTILINE)
    assert sorted(key for key, _ in rows) == sorted(setting_keys())
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    for key, default in rows:
        assert load_config(path, [f"{key}={default}"]) == config_class()(), key


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_every_example_is_shown_on_a_page(example: Path, pages: dict[Path, str]) -> None:
    marker = f"<!-- examples/{example.name} -->"
    shown = [path for path, text in pages.items() if marker in text]
    assert shown, f"{example.name} is on no page"
