"""Packages that only some kinds of files need."""

import importlib
from typing import Any

from quantize.errors import QuantizeError


def import_extra(module: str) -> Any:
    """Import a module of a package that ``requirements-PACKAGE.txt`` lists.

    Raises:
        QuantizeError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise QuantizeError(
            f"the package {package} is not installed: pip install -r requirements-{package}.txt"
        ) from error
