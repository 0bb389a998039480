"""Warnings of other libraries that users can do nothing about: for the log file of a run alone."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

logger = logging.getLogger("reid_edge.libraries")

Which = Callable[[str, type[Warning], str], bool]


def log_warnings(which: Which | None = None, log: Callable[[str], object] = logger.debug) -> None:
    """Log warnings at the level DEBUG instead of printing them.

    The caller limits this by ``warnings.catch_warnings()``.

    Args:
        which: tells from (text, category, file) whether a warning is logged; others are printed
            as before. None: all are logged.
        log: takes the line.
    """
    printed = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if which is None or which(text, category, filename):
            log(f"{Path(filename).name}:{lineno}: {category.__name__}: {' '.join(text.split())}")
        else:
            printed(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    if which is None:
        warnings.simplefilter("default")


def is_of(*packages: str) -> Which:
    """Return what tells whether the code of some packages warns."""
    return lambda _text, _category, file: not set(packages).isdisjoint(Path(file).parts)
