"""The wheel, installed, used from another folder."""

from pathlib import Path
from zipfile import ZipFile

import pytest

import reid_edge
from tests.packaging.environments import Environment

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_in_it(wheel: Path) -> None:
    files = set(ZipFile(wheel).namelist())
    for package in ("reid_edge", "pipeline", "prune", "quantize"):
        sources = {path for path in (ROOT / package).rglob("*") if path.suffix != ".pyc"}
        there = {str(path.relative_to(ROOT)) for path in sources if path.is_file()}
        assert there <= files
        assert f"{package}/py.typed" in there
    configs = {f"pipeline/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert {name for name in files if name.endswith(".yaml")} == configs
    folders = {name.partition("/")[0] for name in files}
    information = f"reid_edge-{reid_edge.__version__}.dist-info"
    assert folders == {"reid_edge", "pipeline", "prune", "quantize", information}
    assert f"{information}/licenses/LICENSE" in files


def test_without_extras_it_has_no_torch(light: Environment, tmp_path: Path) -> None:
    for module in ("torch", "lightning", "nni", "onnx", "scipy", "jinja2"):
        done = light.run("python", "-c", f"import {module}", cwd=tmp_path)
        assert f"No module named '{module}'" in done.stderr


def test_help_and_version(light: Environment, tmp_path: Path) -> None:
    done = light.run("reid-edge", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"reid-edge {reid_edge.__version__}\n")
    for command in ([], ["run"], ["search"], ["verify"]):
        done = light.run("reid-edge", *command, "--help", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(" ".join(["usage: reid-edge", *command, "["]))


@pytest.mark.parametrize("command", [["run"], ["run", "--plan"], ["search", "--run", "x"]])
def test_what_the_extra_brings_is_named(
    light: Environment, tmp_path: Path, command: list[str]
) -> None:
    done = light.run("reid-edge", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: reid-edge {command[0]} needs PyTorch, Lightning and NNI: "
        'pip install "reid-edge[compress]"\n'
    )


def test_a_plan_from_another_folder(full: Environment, tmp_path: Path) -> None:
    done = full.run("reid-edge", "run", "--plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "taking configs/quickstart.yaml" in done.stderr
    assert "quantize" in done.stdout
    assert not list(tmp_path.iterdir())
