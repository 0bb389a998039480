"""The splits that torchreid keeps beside a data set's images, as JSON."""

import json
from pathlib import Path
from typing import Any

from reid_edge.core.errors import DataError

Names = list[str]


def read_torchreid_splits(path: Path, data_set: str) -> list[tuple[Names, Names, Names]]:
    """Read the names of the images of each split for training, query and gallery.

    Args:
        path: a file of torchreid, such as ``splits_new_detected.json``.
        data_set: whose splits they are, for a message.

    Raises:
        DataError: it cannot be read.
    """

    def names(entries: Any) -> Names:
        # The paths are those of the machine that made the file; only the names matter here.
        return [entry.replace("\\", "/").rpartition("/")[2] for entry, _, _ in entries]

    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return [
            (names(split["train"]), names(split["query"]), names(split["gallery"]))
            for split in splits
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as torchreid's splits of {data_set}") from error
