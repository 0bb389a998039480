"""The declaration of a data set: how it is recognised, read, counted and fetched.

A new data set is one file with a `Reader` and one line in :mod:`reid_edge.data.readers`. Commands,
settings, `reid-edge prepare` and the documentation take all they need from the declaration. From
Python a `Reader` can be passed without registration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reid_edge.data.schema import Counts, Labels, ReidData


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A data set.

    Attributes:
        name: what ``data.format`` and the commands call it.
        layout: what is in its folder, in one line for the documentation.
        read: called as ``read(root, **options)`` with the data set's folder or one that wraps it;
            raises `DataError` where it cannot be read.
        publication: where the data set was published; empty for a layout of one's own images.
        marks: patterns of `Path.glob` for what only this data set's folder has, or the folder that
            it is usually wrapped in.
        file_suffix: the ending of a single file that is such a data set, such as ".csv".
        any_folders: what a folder with folders in it is read as when it fits no other data set.
        extracts: reading extracts images first; ``read`` takes ``progress`` then, which it calls
            with (done, total).
        options: the other keyword arguments of ``read``, with their default values.
        counts: what whole copies hold; empty where nothing is known.
        kaggle: the name of a copy at Kaggle, "owner/name", where there is one.
        labels: what it says of who is in an image, see :class:`reid_edge.data.schema.ReidData`.
    """

    name: str
    layout: str
    read: Callable[..., ReidData]
    publication: str = ""
    marks: tuple[str, ...] = ()
    file_suffix: str = ""
    any_folders: bool = False
    extracts: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    counts: tuple[Counts, ...] = ()
    kaggle: str = ""
    labels: Labels = "persons"

    def looks_like(self, folder: Path) -> bool:
        """Tell whether something is in a folder that only this data set's folder has."""
        return any(any(folder.glob(mark)) for mark in self.marks)

    def is_file(self, path: Path) -> bool:
        """Tell whether a path has the name of a single file that is such a data set."""
        return bool(self.file_suffix) and path.suffix.lower() == self.file_suffix

    def differing_counts(self, found: Counts) -> str | None:
        """Say how counts differ from those of whole copies; None where they do not."""
        if not self.counts or found in self.counts:
            return None
        return f"{self.name} has {' or '.join(map(str, self.counts))}; found {found}"
