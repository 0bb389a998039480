"""Packages that run only some kinds of model files."""

import importlib
from pathlib import Path
from typing import Any

from reid_edge.core.errors import ModelError


def import_extra(module: str, path: Path) -> Any:
    """Import what runs a model file, of a package that ``requirements-PACKAGE.txt`` lists.

    Raises:
        ModelError: it is not installed, or does not load; the message names the file and says why,
            and how to install it.
    """
    package = module.partition(".")[0]
    install = f"pip install -r requirements-{package}.txt"
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise ModelError(f"{path}: needs the package {package}: {install}") from error
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path}: needs the package {package}, which is there, but {module} cannot be imported "
            f"({reason}): {install}"
        ) from error
