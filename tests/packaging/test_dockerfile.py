"""The Dockerfile, as far as its text tells: it installs what the lock says."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)


def of(name: str) -> list[str]:
    """Return the instructions of a name, each in one line."""
    found = (text for kind, text in INSTRUCTIONS if kind == name)
    return [" ".join(text.replace("\\\n", " ").split()) for text in found]


def test_packages_come_from_the_lock_with_their_hashes() -> None:
    installs = [line for line in of("RUN") if "pip install" in line]
    torch, locked, own = installs
    assert "grep -E '^torch(vision)?==' requirements.txt" in torch
    assert "https://download.pytorch.org/whl/cpu" in torch
    assert "--no-deps --require-hashes -r locks/requirements.txt" in locked
    assert "python locks/install_nni.py" in locked
    assert "--no-deps --require-hashes -r locks/requirements-dev.txt" in own
    assert "pip wheel --no-deps --no-build-isolation" in own
    assert own.endswith("python -m pip install --no-deps dist/*.whl")


def test_torch_alone_is_not_in_the_lock_that_is_installed() -> None:
    pinned = (ROOT / "requirements.txt").read_text()
    names = re.findall(r"^(torch(?:vision)?)==", pinned, re.MULTILINE)
    assert names == ["torch", "torchvision"]
    locked = (ROOT / "locks" / "requirements.txt").read_text()
    assert not re.search(r"^torch(vision)?==", locked, re.MULTILINE)


def test_what_is_copied_is_there_and_is_all_that_a_wheel_needs() -> None:
    copied = [
        name for line in of("COPY") if not line.startswith("--from") for name in line.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert {*packages, "pyproject.toml", "README.md", "LICENSE"} <= set(copied)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert allowed[0] == "*"
    tops = {f"!{name.partition('/')[0]}" for name in copied}
    assert tops <= set(allowed)


def test_the_python_is_one_that_is_tested_and_nobody_is_root() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = of("FROM")
    (version,) = {re.match(r"python:(\d\.\d+)-slim", image)[1] for image in images}  # type: ignore[index]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert of("USER") == ["1000"]
    assert of("ENTRYPOINT") == ['["reid-edge"]']


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        ["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
