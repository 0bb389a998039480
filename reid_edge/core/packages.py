"""Packages that only some file formats need."""

import importlib
import platform
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reid_edge.core.errors import ReidError


def how_to_install(extra: str) -> str:
    """Return the command that installs the packages of an extra.

    In a checkout, these are the pinned versions of its requirements.
    """
    # What these need is in the requirements of every checkout.
    everybody = extra in ("compress", "datasets", "tensorboard")
    file = "requirements.txt" if everybody else f"requirements-{extra}.txt"
    if not (Path(__file__).parents[2] / file).is_file():
        return f'pip install "reid-edge[{extra}]"'
    # NNI has no wheel for other machines.
    apart = extra == "compress" and platform.machine() != "x86_64"
    return f"pip install -r {file}{' and python locks/install_nni.py' if apart else ''}"


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Return those of some top-level packages that are not installed; none is imported."""
    return [package for package in packages if find_spec(package) is None]


def import_package(
    module: str, *, extra: str, needed_by: object, error: type[ReidError] = ReidError
) -> Any:
    """Import a module of a package that is installed with an extra.

    Args:
        module: such as "executorch.exir".
        extra: that the package belongs to.
        needed_by: a file or a format, for the message.
        error: what is raised.

    Raises:
        ReidError: the package is not installed, or does not load; the message says why, and how to
            install it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as failure:
        install = how_to_install(extra)
        if isinstance(failure, ModuleNotFoundError) and failure.name == package:
            raise error(f"{needed_by}: needs the package {package}: {install}") from failure
        reason = " ".join(str(failure).split())
        raise error(
            f"{needed_by}: needs the package {package}, which is there, but {module} cannot be "
            f"imported ({reason}): {install}"
        ) from failure
