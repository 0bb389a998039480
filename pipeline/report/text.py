"""How the tables of the terminal are laid out, and how they write numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


def make_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    wrap: bool = False,
) -> Table:
    """Return a table.

    Args:
        title: above it.
        headings: of the columns.
        rows: one text a column.
        left: how many first columns are flush left; the others are flush right.
        wrap: whether the columns behind the first one may break lines.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if index < left else "right"
        table.add_column(heading, justify=justify, no_wrap=index == 0 or not wrap)
    for row in rows:
        table.add_row(*row)
    return table


def size(count: int) -> str:
    """Return a file size for people."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"
