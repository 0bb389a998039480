"""Which data set a command reads a folder as. It is printed and noted with the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_edge.core.progress import Progress
    from reid_edge.data.schema import ReidData

BY_DEFAULT = "no other layout fits; for another one: --as NAME"


@dataclass(frozen=True)
class Reading:
    """Which data set a folder is read as.

    Attributes:
        name: in ``reid_edge.data.readers.READERS``.
        split: which of its splits, where it has several.
        others: what else it could be read as, if it was recognised by its files.
        prepared_from: the data set that ``reid-edge prepare`` made the folder from, if any.
        by_default: no layout was recognised, so it is read as any folder with folders is.
    """

    name: str
    split: int | None = None
    others: tuple[str, ...] = ()
    prepared_from: str | None = None
    by_default: bool = False

    def __str__(self) -> str:
        """Give it as one line."""
        origin = f", prepared from {self.prepared_from}" if self.prepared_from else ""
        split = f", split {self.split}" if self.split is not None else ""
        others = f" (or --as {' or '.join(self.others)})" if self.others else ""
        default = f" ({BY_DEFAULT})" if self.by_default else ""
        return f"read as {self.name}{origin}{split}{others}{default}"

    def to_dict(self) -> dict[str, str | int | None]:
        """Give it as values that JSON has."""
        return {"format": self.name, "prepared_from": self.prepared_from, "split": self.split}


def read_as(
    name: str | None, folder: Path, progress: Progress, *, split: int | None = None
) -> tuple[ReidData, Reading]:
    """Read a data set, and say which one it is read as.

    Args:
        name: which one it is; none: it is recognised by its files.
        folder: where it is.
        progress: called where reading means extracting images first.
        split: which of its splits; none: the reader's own.

    Raises:
        DataError: it cannot be read, or has no such split; the message says if no layout was
            recognised.
    """
    from reid_edge.core.errors import DataError
    from reid_edge.data.provenance import read_provenance
    from reid_edge.data.readers import READERS
    from reid_edge.data.sources import chosen_split, find_reader, read_source, recognise_sources

    chosen, *others = [name] if name else recognise_sources(folder)
    options = {} if split is None else {"split": split}
    reader = find_reader(chosen)
    by_default = name is None and reader.any_folders and not reader.looks_like(folder)
    try:
        data = read_source(chosen, folder, progress=progress, **options)
    except DataError as error:
        if not by_default:
            raise
        raise DataError(f"{error}; it was read as {chosen} ({BY_DEFAULT})") from error
    origin = read_provenance(data.root).request
    if origin is None or origin.data_set not in READERS:
        chosen_one = chosen_split(chosen, split)
        return data, Reading(chosen, chosen_one, tuple(others), by_default=by_default)
    prepared = origin.options.get("split")
    split = chosen_split(origin.data_set, prepared if isinstance(prepared, int) else None)
    return data, Reading(chosen, split, tuple(others), origin.data_set, by_default)
