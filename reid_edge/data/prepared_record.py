"""What ``reid-edge prepare`` notes beside the images that it wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from reid_edge.core.errors import DataError
from reid_edge.data.paths import expand_home
from reid_edge.data.schema import PROTOCOLS, Protocol

RECORD = "prepared.json"
HAS_CAMERAS, PROTOCOL, SOURCE, SOURCE_COUNTS = "has_cameras", "protocol", "source", "source_counts"


def has_cameras(folder: Path) -> bool:
    """Tell whether the cameras in a folder's file names are real ones.

    They are unless the folder was prepared from a data set without cameras.
    """
    return bool(_read(folder).get(HAS_CAMERAS, True))


def recorded_origin(folder: Path) -> tuple[str, int | None] | None:
    """Tell which data set a folder was prepared from, and which of its splits if it was named.

    Returns:
        A key of ``reid_edge.data.sources.SOURCES`` and the split; none where it was not prepared.
    """
    record = _read(folder)
    name, options = record.get("data_set"), record.get("options")
    split = options.get("split") if isinstance(options, dict) else None
    if not isinstance(name, str):
        return None
    return name, split if isinstance(split, int) else None


def recorded_protocol(folder: Path) -> Protocol:
    """Tell by which protocol a folder's data set is evaluated: Market-1501's unless it is noted.

    Raises:
        DataError: what is noted is no protocol that is known.
    """
    protocol = _read(folder).get(PROTOCOL, PROTOCOLS[0])
    if protocol not in PROTOCOLS:
        raise DataError(
            f"{folder / RECORD}: unknown protocol {protocol!r}, known are {', '.join(PROTOCOLS)}; "
            "prepare the data set again"
        )
    return cast(Protocol, protocol)


def describe_source(source: Path | None) -> dict[str, str | int] | None:
    """Say what tells a source from another: its place and, of a file, size and time of change.

    Args:
        source: an archive, a list or a folder, there or not; none stands for Kaggle.
    """
    if source is None:
        return None
    path = expand_home(source).resolve()
    if not path.is_file():
        return {"path": str(path)}
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "modified_ns": status.st_mtime_ns}


def check_same_source(folder: Path, record: Mapping[str, Any], source: Path | None) -> None:
    """Check that a folder was prepared from this source, as far as its record says.

    Args:
        folder: for messages.
        record: of the folder; one of an earlier version does not say.
        source: as for `describe_source`. Of a file that is gone its place is compared alone.

    Raises:
        DataError: it was prepared from another one, or from this one before it changed.
    """
    if SOURCE not in record:
        return
    recorded, given = record[SOURCE], describe_source(source)
    if recorded == given:
        return
    if recorded and given and recorded["path"] == given["path"]:
        if given.items() <= recorded.items():
            return
        raise DataError(
            f"{folder}: holds what was prepared from {given['path']} before that file changed; "
            "choose another --to"
        )
    former = recorded["path"] if recorded else "Kaggle"
    raise DataError(f"{folder}: holds what was prepared from {former}; choose another --to")


def _read(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
