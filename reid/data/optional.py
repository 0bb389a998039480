"""Packages that only some data sets need."""

import importlib
from typing import Any

from reid.errors import DataError


def import_optional(name: str, purpose: str) -> Any:
    """Import a package that the requirements do not list.

    Args:
        name: of the package, which is also its name for pip.
        purpose: what needs it, as the subject of a sentence.

    Raises:
        DataError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise DataError(f"{purpose} needs the package {package}: pip install {package}") from error
