"""Metadata beside a model file, for formats that have no place for it inside.

``float.mnn.json`` holds the metadata of ``float.mnn`` as strings, and the hash of the files that it
belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_edge.core.errors import CheckpointError, QuantizeError
from reid_edge.core.io import hash_files, written_whole
from reid_edge.core.model_file import ModelMetadata

FILES_HASH = "files_hash"


def write_sidecar(path: Path, files: Sequence[Path], metadata: Mapping[str, str]) -> None:
    """Write the metadata of a model file beside it.

    Args:
        path: of the JSON file; an existing one is replaced in one step.
        files: that the model consists of, in an order that is the format's own.
        metadata: as strings.

    Raises:
        QuantizeError: it cannot be written.
    """
    values = {**metadata, FILES_HASH: hash_files(files)}
    with written_whole(path, QuantizeError) as file:
        file.write((json.dumps(values, indent=2, sort_keys=True) + "\n").encode())


def read_sidecar(path: Path, files: Sequence[Path]) -> ModelMetadata:
    """Read the metadata of a model file from the JSON file beside it; defaults if there is none.

    Args:
        path: of the JSON file.
        files: that the model consists of, as ``write_sidecar`` got them.

    Raises:
        CheckpointError: the JSON file is damaged, or it is of another model.
    """
    if not path.is_file():
        return ModelMetadata()
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable JSON object") from error
    if values.pop(FILES_HASH, None) not in (None, hash_files(files)):
        names = " and ".join(file.name for file in files)
        raise CheckpointError(f"{path}: not the metadata of {names}; copy all files again")
    return ModelMetadata.from_strings(values, path)
