"""Packages that run only some kinds of model files."""

import importlib
from pathlib import Path
from typing import Any

from reid.errors import ModelError


def import_extra(module: str, path: Path) -> Any:
    """Import what runs a model file, of a package that ``requirements-PACKAGE.txt`` lists.

    Raises:
        ModelError: it is not installed; the message names the file and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ModelError(
            f"{path}: needs the package {package}: pip install -r requirements-{package}.txt"
        ) from error
