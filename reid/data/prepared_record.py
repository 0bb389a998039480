"""What ``python -m reid prepare`` notes beside the pictures that it wrote."""

import json
from pathlib import Path
from typing import Any, cast

from reid.errors import DataError
from reid.metrics.ranking import PROTOCOLS, Protocol

RECORD = "prepared.json"
HAS_CAMERAS, PROTOCOL = "has_cameras", "protocol"


def has_cameras(folder: Path) -> bool:
    """Tell whether the cameras in a folder's file names are real ones.

    They are unless the folder was prepared from a data set without cameras.
    """
    return bool(_read(folder).get(HAS_CAMERAS, True))


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


def _read(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
