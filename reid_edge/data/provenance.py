"""Where the images of a prepared folder are from: ``prepared.json`` beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self, TypeVar, cast

from reid_edge.core.errors import DataError
from reid_edge.data.paths import check_regular, expand_home
from reid_edge.data.schema import PROTOCOLS, Counts, Protocol

FILE = "prepared.json"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Source:
    """What tells a source from another.

    Attributes:
        path: of an archive, a list or a folder, there or not.
        size: of a file, in bytes.
        modified_ns: when a file was changed, in nanoseconds.
        frames: SHA-256 of the state of a video's frames in a folder.
    """

    path: str
    size: int | None = None
    modified_ns: int | None = None
    # Compared where both are known: earlier versions did not write it.
    frames: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe a source as it is now."""
        path = expand_home(path).resolve()
        if not path.is_file():
            return cls(str(path))
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Request:
    """What decides what is written: two equal requests of one source give equal folders.

    Attributes:
        data_set: a name in ``READERS``, or that of a reader that was passed as itself.
        max_ids: how many identities were kept; none: all.
        options: of the reader.
    """

    data_set: str
    max_ids: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Where the images of a folder are from.

    Attributes:
        request: what ``reid-edge prepare`` was asked for; none: the folder was not prepared.
        source: what the images were taken from; none: Kaggle.
        names_source: whether ``source`` is known; files of earlier versions do not have it.
        source_counts: of the whole data set; none in files of earlier versions.
        protocol: how the data set is evaluated.
        has_cameras: whether the cameras in the file names are real ones.
        counts: of what was written.
    """

    request: Request | None = None
    source: Source | None = None
    names_source: bool = False
    source_counts: Counts | None = None
    protocol: Protocol = "market1501"
    has_cameras: bool = True
    counts: Counts | None = None

    def check_source(self, folder: Path, given: Path | None, frames: str | None = None) -> None:
        """Check that a folder was prepared from a source, as far as is known.

        Args:
            folder: for messages.
            given: an archive, a list or a folder; none stands for Kaggle. If a file is gone, only
                its path is compared.
            frames: their state now, see :class:`Source`; compared where both are known.

        Raises:
            DataError: it was prepared from another one, or from this one before it changed.
        """
        now = None if given is None else Source.of(given)
        if not self.names_source:
            return
        if self.source == now:
            if self.source is not None and len({self.source.frames, frames} - {None}) > 1:
                raise DataError(
                    f"{folder}: holds what was prepared from {self.source.path} before its frames "
                    "changed; choose another --to"
                )
            return
        if self.source is None or now is None or self.source.path != now.path:
            former = "Kaggle" if self.source is None else self.source.path
            raise DataError(f"{folder}: holds what was prepared from {former}; choose another --to")
        if now.size is not None:
            raise DataError(
                f"{folder}: holds what was prepared from {now.path} before that file changed; "
                "choose another --to"
            )


def read_provenance(folder: Path) -> Provenance:
    """Read where the images of a folder are from; without a file that says it, the defaults.

    Raises:
        DataError: the protocol in the file is not known.
    """
    check_regular(folder / FILE)
    try:
        values = dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return Provenance()
    protocol = values.get("protocol", PROTOCOLS[0])
    if protocol not in PROTOCOLS:
        raise DataError(
            f"{folder / FILE}: unknown protocol {protocol!r}, known are {', '.join(PROTOCOLS)}; "
            "prepare the data set again"
        )
    name, options = values.get("data_set"), values.get("options")
    request = None
    if isinstance(name, str):
        request = Request(name, values.get("max_ids"), options if isinstance(options, dict) else {})
    return Provenance(
        request,
        _read(Source, values.get("source")),
        "source" in values,
        _read(Counts, values.get("source_counts")),
        cast(Protocol, protocol),
        bool(values.get("has_cameras", True)),
        _read(Counts, values.get("counts")),
    )


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write where the images of a folder are from.

    Raises:
        OSError: it cannot be written.
    """
    values = asdict(provenance)
    del values["names_source"]
    if provenance.source is not None:
        described = values["source"].items()
        values["source"] = {key: value for key, value in described if value is not None}
    values = {**(values.pop("request") or {}), **values}
    (folder / FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _read(kind: type[Value], values: object) -> Value | None:
    """Make an object of values from a file; None where they are others than it has."""
    try:
        return kind(**values) if isinstance(values, dict) else None
    except TypeError:
        return None
