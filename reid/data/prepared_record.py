"""What ``python -m reid prepare`` notes beside the pictures that it wrote."""

import json
from pathlib import Path

RECORD = "prepared.json"
HAS_CAMERAS = "has_cameras"


def has_cameras(folder: Path) -> bool:
    """Tell whether the cameras in a folder's file names are real ones.

    They are unless the folder was prepared from a data set without cameras.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(record.get(HAS_CAMERAS, True))
    except (OSError, ValueError, AttributeError):
        return True
