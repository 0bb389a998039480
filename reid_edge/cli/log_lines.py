"""Log lines on standard error: one a record, above the display of what goes on."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Of the levels that a reader should not miss: yellow and red.
COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}


class LogLines(logging.Handler):
    """Writes each record as a plain line, neither filled up nor broken.

    Args:
        timestamps: begin lines with the time.
        level: records below it are not written.
    """

    def __init__(self, *, timestamps: bool, level: int = logging.INFO) -> None:
        super().__init__(level)
        time = "[%(asctime)s] " if timestamps else ""
        self.setFormatter(logging.Formatter(f"{time}%(levelname)s %(message)s", "%H:%M:%S"))
        self._display: Console | None = None
        self._process = 0

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; the level has a colour on a terminal."""
        line = super().format(record)
        colour = COLOURS.get(record.levelno)
        if colour is None or not sys.stderr.isatty() or "NO_COLOR" in os.environ:
            return line
        return line.replace(record.levelname, f"{colour}{record.levelname}\x1b[0m", 1)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            line = self.format(record)
            # A forked process has no thread that draws the display, but perhaps its locked lock.
            if self._display is None or os.getpid() != self._process:
                sys.stderr.write(f"{line}\n")
                return
            from rich.text import Text

            self._display.print(Text.from_ansi(line), soft_wrap=True)
        except Exception:
            self.handleError(record)

    @contextmanager
    def above(self, display: Console) -> Iterator[None]:
        """Write lines above a display that is drawn again and again."""
        self._display, self._process = display, os.getpid()
        try:
            yield
        finally:
            self._display = None
