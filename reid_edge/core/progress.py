"""How long work tells the outside how far it is."""

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[int, int], None]
"""Called with (done, total), in whatever unit the work counts."""


def count_of(done: int, total: int) -> str:
    """Return how much is done of how much, in words."""
    return f"{done:,} of {total:,}"


class StartProgress(Protocol):
    """Returns the function that reports on a piece of work."""

    def __call__(
        self, title: str, count: Callable[[int, int], str] = ..., /, *, lines: bool = ...
    ) -> Progress:
        """Begin a piece of work.

        Args:
            title: of it.
            count: from (done, total) to what is shown of them; by default :func:`count_of`.
            lines: where there is no display, write lines of the log (default); False: the work
                writes its own.
        """


def no_progress(
    title: str, count: Callable[[int, int], str] = count_of, /, *, lines: bool = True
) -> Progress:
    """Begin a piece of work that nobody looks at."""
    del title, count, lines
    return lambda _done, _total: None
