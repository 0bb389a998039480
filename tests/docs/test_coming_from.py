"""Settings and options of this project in the tables of the page "Coming from" are real."""

import re
import shlex
from pathlib import Path

import pytest

from pipeline.command import parse_arguments
from pipeline.settings_io import load_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "coming-from.md"
SETTING = re.compile(r"[a-z_]+(?:\.[a-z_]+)*=")


def cells() -> list[str]:
    """Return the code in the right column of all tables."""
    rows = re.findall(r"^\| .+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    return [code for cell in rows for code in re.findall(r"`([^`]+)`", cell)]


CODES = [code for code in cells() if not code.startswith(("python ", "reid-edge "))]
SETTINGS = [code for code in CODES if SETTING.match(code.lstrip("'"))]
OPTIONS = [code for code in CODES if code.startswith("--")]


def test_the_tables_are_found() -> None:
    assert len(SETTINGS) > 50
    assert len(OPTIONS) > 6


@pytest.mark.parametrize("code", dict.fromkeys(SETTINGS))
def test_settings_load_together(code: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    given = shlex.split(code)
    assert [one for one in given if not SETTING.match(one)] == []
    load_config(path, given)


@pytest.mark.parametrize("code", dict.fromkeys(OPTIONS))
def test_options_are_those_of_run(code: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    options = parse_arguments(shlex.split(code), "run_pipeline.py")
    load_config(path, options.overrides, options.stages)


def test_every_section_has_its_command_and_ours() -> None:
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(sections) == 7
    for section in sections:
        assert re.search(r"run_pipeline\.py --config", section), section.partition("\n")[0]
        assert section.count("\n| ") > 6, section.partition("\n")[0]
