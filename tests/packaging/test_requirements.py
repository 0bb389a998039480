"""The ranges of pyproject.toml and the pins of requirements*.txt agree."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reid_edge import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
WITHOUT_EXTRAS = "without extras"


def pins(name: str) -> dict[str, str]:
    """Return the versions that a file pins, by package."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    pinned = [
        line.partition(";")[0].strip().split("==")
        for line in lines
        if line and not line.startswith("-r")
    ]
    return {canonicalize_name(package): version for package, version in pinned}


def ranges(*extras: str) -> dict[str, Requirement]:
    """Return the requirements of extras by package."""
    lines = [
        line
        for extra in extras
        for line in (PROJECT["dependencies"] if extra == WITHOUT_EXTRAS else EXTRAS[extra])
    ]
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements.txt", (WITHOUT_EXTRAS, "compress", "datasets", "tensorboard")),
        ("requirements-openvino.txt", ("openvino",)),
        ("requirements-executorch.txt", ("executorch",)),
        ("requirements-tracking.txt", ("tracking",)),
        ("requirements-sweep.txt", ("sweep",)),
        ("requirements-ncnn.txt", ("ncnn",)),
        ("requirements-mnn.txt", ("mnn",)),
        ("requirements-litert.txt", ("litert",)),
        ("requirements-docs.txt", ("docs",)),
    ],
)
def test_a_file_pins_what_its_extras_bring(file: str, extras: tuple[str, ...]) -> None:
    pinned, wanted = pins(file), ranges(*extras)
    assert set(pinned) == set(wanted)
    assert [n for n, one in wanted.items() if not one.specifier.contains(pinned[n])] == []


@pytest.mark.parametrize("extra", ["ncnn", "mnn"])
def test_what_the_tests_need_of_an_extra_is_the_version_that_it_pins(extra: str) -> None:
    assert pins(f"requirements-{extra}.txt").items() <= pins("requirements-dev.txt").items()


def test_every_range_has_a_floor() -> None:
    for name, one in ranges(WITHOUT_EXTRAS, *(set(EXTRAS) - {"all"})).items():
        assert any(part.operator == ">=" for part in one.specifier), name


def test_all_names_every_extra_for_use() -> None:
    (line,) = EXTRAS["all"]
    # litert-export does not install beside the newest pydantic.
    assert Requirement(line).extras == set(EXTRAS) - {"all", "docs", "litert-export"}


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert f"\n## [{__version__}]" in (changes := (ROOT / "CHANGELOG.md").read_text()) or (
        f"This will be {__version__}." in changes
    )
