"""A wheel of this checkout, and environments that it is installed in."""

import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, pip, requirements

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without hatchling here pip fetches it.
    how = ["--no-build-isolation"] if find_spec("hatchling") is not None else []
    pip("wheel", "--no-deps", *how, "--wheel-dir", str(folder), str(ROOT))
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def make_environment(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Environment]:
    def make() -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        return Environment(folder, wheel, "--no-deps", "--no-index")

    return make


@pytest.fixture(scope="session")
def light(make_environment: Callable[[], Environment]) -> Environment:
    """The wheel with what it requires without extras, and nothing else."""
    environment = make_environment()
    (metadata,) = environment.packages.glob("reid_edge-*.dist-info/METADATA")
    lines = metadata.read_text().splitlines()
    required = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    for name in requirements(required):
        environment.link(name)
    return environment


@pytest.fixture(scope="session")
def full(make_environment: Callable[[], Environment]) -> Environment:
    """The wheel beside all packages of the environment of the tests."""
    environment = make_environment()
    there = sysconfig.get_path("purelib")
    (environment.packages / "all.pth").write_text(f"import site; site.addsitedir({there!r})")
    return environment
