"""Packages that only some kinds of files need."""

import importlib
from typing import Any

from reid_edge.core.errors import QuantizeError

# Packages that another one's requirements list.
_LISTED_WITH = {"torchao": "executorch"}


def import_extra(module: str) -> Any:
    """Import a module of a package that one of the ``requirements-NAME.txt`` lists.

    Raises:
        QuantizeError: it is not installed, or does not load; the message says why, and how to
            install it.
    """
    package = module.partition(".")[0]
    install = f"pip install -r requirements-{_LISTED_WITH.get(package, package)}.txt"
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise QuantizeError(f"the package {package} is not installed: {install}") from error
        reason = " ".join(str(error).split())
        raise QuantizeError(
            f"the package {package} is there, but {module} cannot be imported ({reason}): {install}"
        ) from error
