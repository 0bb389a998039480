"""Progress on standard error, so that output can be piped: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from reid_edge.cli.log_lines import LogLines
from reid_edge.core.progress import Progress, StartProgress, count_of, no_progress

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 30.0

logger = logging.getLogger(__name__)

# Steps in which a bar grows.
STEPS = 1000


@contextmanager
def progress_bars(
    headline: Callable[[], str] | None = None, *, quiet: bool = False
) -> Iterator[StartProgress]:
    """Give a function that begins a piece of work and returns what reports (done, total) of it.

    On a terminal, all pieces that go on are shown as bars with the time left, below the lines of
    the log. Elsewhere a piece that takes long gets a line of the log every half minute.

    Args:
        headline: returns a line to show above the bars; it is called several times a second.
        quiet: show nothing.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield no_progress
    elif console.is_terminal:
        with _bars(console, headline) as start:
            yield start
    else:
        yield progress_lines


def progress_lines(
    title: str, count: Callable[[int, int], str] = count_of, /, *, lines: bool = True
) -> Progress:
    """Begin a piece of work that writes a line of the log every half minute."""
    if not lines:
        return no_progress(title)
    started = last = heard = time.monotonic()
    before = 0

    def report(done: int, total: int) -> None:
        nonlocal started, last, heard, before
        now = time.monotonic()
        if done < before:  # the work has begun again
            started = heard
        heard, before = now, done
        if not 0 < done < total or now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = (now - started) / done * (total - done)
        logger.info("%s: %s, %.0f s left", title, count(done, total), left)

    return report


@contextmanager
def _bars(console: Console, headline: Callable[[], str] | None) -> Iterator[StartProgress]:
    from rich.console import RenderableType
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class BarsBelowLine(Bars):
        def get_renderables(self) -> Iterator[RenderableType]:
            if headline is not None:
                yield Text(headline(), no_wrap=True, overflow="ellipsis")
            yield self.make_tasks_table([task for task in self.tasks if task.visible])

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}"), TimeRemainingColumn(compact=True),
    )  # fmt: skip
    # Other streams are left alone: a forked process that writes to one must not wait for the
    # thread that draws.
    bars = BarsBelowLine(
        *columns, console=console, transient=True, refresh_per_second=4,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip

    def start(
        title: str, count: Callable[[int, int], str] = count_of, /, *, lines: bool = True
    ) -> Progress:
        del lines
        task: TaskID | None = None
        shown = 0

        def report(done: int, total: int) -> None:
            nonlocal task, shown
            # Not shown before it is first heard of: not every piece of work is needed.
            if done < total:
                # An update takes some ten microseconds, more than much of what is counted.
                if task is not None and 0 <= done - shown < total // STEPS:
                    return
                shown, text = done, count(done, total)
                if task is None:
                    task = bars.add_task(title, completed=done, total=total, count=text)
                else:
                    bars.update(task, completed=done, total=total, count=text)
            elif task is not None:
                bars.remove_task(task)
                task = None

        return report

    handlers = [h for h in logging.getLogger("reid_edge").handlers if isinstance(h, LogLines)]
    with bars, ExitStack() as above:
        for handler in handlers:
            above.enter_context(handler.above(console))
        yield start
