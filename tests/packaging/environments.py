"""Virtual environments that a wheel is installed in."""

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


class Environment:
    """A virtual environment with the wheel and what pip installs with it.

    Args:
        folder: is made.
        wheel: to install.
        options: of ``pip install``.
    """

    def __init__(self, folder: Path, wheel: Path, *options: str) -> None:
        self._linked: set[str] = set()
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.packages = folder / "lib" / version / "site-packages"
        pip("--python", str(self.bin / "python"), "install", *options, str(wheel))

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; this checkout is not on its path."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COLUMNS")}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            capture_output=True, text=True, check=False, cwd=cwd, env=environment,
        )  # fmt: skip

    def link(self, package: str) -> None:
        """Make a package of the environment of the tests importable, and what it requires."""
        if package in self._linked:
            return
        self._linked.add(package)
        found = distribution(package)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (self.packages / top).exists():
                (self.packages / top).symlink_to(Path(str(found.locate_file(top))))
        for required in requirements(found.requires):
            self.link(required)


def requirements(lines: list[str] | None) -> list[str]:
    """Return the names of the requirements that no extra brings."""
    parsed = [Requirement(line) for line in lines or ()]
    return [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)
