"""As what a command reads a folder: said, and noted, lest figures of different sets be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_edge.core.progress import Progress
    from reid_edge.data.schema import ReidData


@dataclass(frozen=True)
class Reading:
    """As what a folder is read.

    Attributes:
        name: a key of ``reid_edge.data.sources.SOURCES``.
        split: which of its splits, where it has several.
        others: what else it could be read as, where that was not said.
        prepared_from: the data set that ``reid-edge prepare`` made the folder from, if any.
    """

    name: str
    split: int | None = None
    others: tuple[str, ...] = ()
    prepared_from: str | None = None

    def __str__(self) -> str:
        """Say it in a line."""
        origin = f", prepared from {self.prepared_from}" if self.prepared_from else ""
        split = f", split {self.split}" if self.split is not None else ""
        others = f" (or --as {' or '.join(self.others)})" if self.others else ""
        return f"read as {self.name}{origin}{split}{others}"

    def to_dict(self) -> dict[str, str | int | None]:
        """Give it as values that JSON has."""
        return {"format": self.name, "prepared_from": self.prepared_from, "split": self.split}


def read_as(
    name: str | None, folder: Path, progress: Progress, *, split: int | None = None
) -> tuple[ReidData, Reading]:
    """Read a data set, and say as what.

    Args:
        name: which one it is, if that was said.
        folder: where it is.
        progress: called where reading means extracting images first.
        split: which of its splits, if that was said.

    Raises:
        DataError: it cannot be read, or has no such split.
    """
    from reid_edge.data.prepared_record import recorded_origin
    from reid_edge.data.sources import SOURCES, chosen_split, read_source, recognise_sources

    chosen, *others = [name] if name else recognise_sources(folder)
    options = {} if split is None else {"split": split}
    data = read_source(chosen, folder, progress=progress, **options)
    origin = recorded_origin(data.root)
    if origin is None or origin[0] not in SOURCES:
        return data, Reading(chosen, chosen_split(chosen, split), tuple(others))
    return data, Reading(chosen, chosen_split(*origin), tuple(others), origin[0])
