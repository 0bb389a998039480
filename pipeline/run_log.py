"""The log file of a run: every line, warnings of libraries, and what a run ended with."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from reid_edge.core.library_warnings import log_warnings

# Whose lines are shown and written.
PACKAGES = ("pipeline", "reid_edge", "prune", "quantize")
LOG_FILE = "run.log"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

logger = logging.getLogger(__name__)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - of the base class
        """Drop a line that cannot be written: hours of training must not end because of it."""


class _ShownBefore(logging.Filter):
    """Keeps lines from a handler that it would not get without a log file.

    Args:
        levels: lowest levels that the loggers of the packages let pass before, by name.
    """

    def __init__(self, levels: Mapping[str, int]) -> None:
        super().__init__()
        self._levels = levels

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is passed on."""
        one: logging.Logger | None = logging.getLogger(record.name)
        while one is not None and one.name not in self._levels:
            if one.level:  # set for a module, and left alone
                return True
            one = one.parent
        return one is None or record.levelno >= self._levels[one.name]


@contextmanager
def log_file(folder: Path, packages: Sequence[str], command: Sequence[str]) -> Iterator[None]:
    """Append everything that is logged to ``run.log``, whatever the terminal shows of it.

    Warnings of libraries become lines of the log. Those that users can do nothing about are in
    the file alone. An error that ends the block is there with its traceback. Handlers that are
    there already, such as those of a program that uses the library, get no more than before.

    Args:
        folder: of the run.
        packages: names of the loggers of this program.
        command: that runs, for the first line.
    """
    try:
        handler = _LogFile(folder / LOG_FILE, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        logger.warning("%s: there is no log file (%s)", folder / LOG_FILE, error.strerror)
        yield
        return
    handler.setFormatter(logging.Formatter(FORMAT))
    own = [logging.getLogger(name) for name in packages]
    # A record that is passed on reaches the file by the root logger.
    loggers = [logging.root, *(one for one in own if not one.propagate)]
    levels = [one.level for one in own]
    last_resort = logging.lastResort
    if logging.root.handlers or last_resort is None:
        last_resort = None
    else:  # a program without handlers sees warnings, until there is one
        logging.root.addHandler(last_resort)
    shown_before = _ShownBefore({one.name: one.getEffectiveLevel() for one in own})
    others = {other for one in (logging.root, *own) for other in one.handlers}
    for other in others:
        other.addFilter(shown_before)
    for one in loggers:
        one.addHandler(handler)
    for one in own:
        one.setLevel(logging.DEBUG)
    try:
        logger.debug("command: %s", " ".join(command))
        with warnings.catch_warnings():
            log_warnings(lambda *_: True, logging.getLogger("reid_edge.libraries").warning)
            yield
    except BaseException:
        handler.handle(
            logging.LogRecord(
                __name__, logging.ERROR, __file__, 0, "ended by", None, sys.exc_info()
            )
        )
        raise
    finally:
        for one in loggers:
            one.removeHandler(handler)
        for other in others:
            other.removeFilter(shown_before)
        if last_resort is not None:
            logging.root.removeHandler(last_resort)
        for one, level in zip(own, levels, strict=True):
            one.setLevel(level)
        with suppress(OSError):  # the disk may be full
            handler.close()
