"""Tables that fit the terminal, and plain lines for a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

# A column whose text may break is at least this wide.
NARROWEST_TEXT = 16
# What rich draws around the text of a column, and around the table.
COLUMN_FRAME, TABLE_FRAME = 3, 1


@dataclass(frozen=True)
class FittingTable:
    """A table that leaves out its least important columns where the terminal is narrow.

    No number is ever cut short. In a pipe or a file every column is there, without a frame, and no
    line is broken or filled up.

    Attributes:
        title: above it, or empty.
        headings: of the columns.
        rows: one text a column.
        footer: a last row, of the sum, or empty.
        left: how many first columns are flush left; the others are flush right.
        drop: headings of columns that may be left out, the least important first.
        breaking: headings of columns whose text may break into lines.
        caption: below it, or empty.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    left: int = 1
    drop: Sequence[str] = ()
    breaking: Sequence[str] = ()
    caption: str = ""

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield what rich prints."""
        from rich.text import Text

        if not console.is_terminal:
            yield Text(self._plain(), no_wrap=True, overflow="ignore", end="\n")
            return
        shown = self._columns(options.max_width)
        yield self._framed(shown)
        missing = [name for index, name in enumerate(self.headings) if index not in shown]
        captions = [self.caption] if self.caption else []
        if missing:
            captions.append(f"not shown: {', '.join(missing)}; a wider terminal has room for more")
        for caption in captions:
            yield Text(caption, style="dim")

    def _columns(self, width: int) -> list[int]:
        """Return the columns that fit, in order."""
        widths = self._widths()
        for index, heading in enumerate(self.headings):
            if heading in self.breaking:
                widths[index] = min(widths[index], NARROWEST_TEXT)
        shown = list(range(len(self.headings)))

        def needed() -> int:
            return sum(widths[index] + COLUMN_FRAME for index in shown) + TABLE_FRAME

        for heading in self.drop:
            if needed() > width:
                shown.remove(self.headings.index(heading))
        while needed() > width and len(shown) > 1:
            shown.pop()
        return shown

    def _all_rows(self) -> list[Sequence[str]]:
        return [*self.rows, *([self.footer] if self.footer else [])]

    def _widths(self) -> list[int]:
        from rich.cells import cell_len

        return [
            max(cell_len(line) for text in column for line in text.splitlines() or [""])
            for column in zip(self.headings, *self._all_rows(), strict=True)
        ]

    def _framed(self, shown: Sequence[int]) -> RenderableType:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(self.title) or None, title_justify="left")
        for index in shown:
            heading = self.headings[index]
            table.add_column(
                escape(heading),
                justify="left" if index < self.left else "right",
                no_wrap=heading not in self.breaking and index > 0,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(escape(row[index]) for index in shown))
        if self.footer:
            table.add_section()
            table.add_row(*(escape(self.footer[index]) for index in shown))
        return table

    def _plain(self) -> str:
        from rich.cells import cell_len

        # A row is one line, also where a cell has several on a terminal.
        rows = [
            [", ".join(text.splitlines()) for text in row]
            for row in (self.headings, *self._all_rows())
        ]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        lines = [self.title] if self.title else []
        for row in rows:
            cells = []
            for index, text in enumerate(row):
                blank = " " * (widths[index] - cell_len(text))
                cells.append(text + blank if index < self.left else blank + text)
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *([self.caption] if self.caption else [])])


def output_console() -> Console:
    """Return a console for standard output that breaks no line of a pipe or a file."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(soft_wrap=True)
