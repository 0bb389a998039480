"""Progress on the terminal, on standard error, so that output can be piped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from reid_edge.core.progress import Progress as Report


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Report]]:
    """Give a function from the title of a piece of work to what reports (done, total) of it."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:

        def start(title: str) -> Report:
            # Not shown before it is first heard of: not every piece of work is needed.
            task = bars.add_task(title, total=None, visible=False)
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        yield start
