"""Archives for device makers' compilers: the ONNX file in them, run by ONNX Runtime."""

from __future__ import annotations

import zipfile
from pathlib import Path

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import (
    BUNDLED_MODEL,
    Backend,
    LoadedModel,
    LoadOptions,
    archive_names,
)
from reid_edge.inference.backends.onnx_runtime import load_graph, weight_locations


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load the ONNX file in an archive; what a compiler makes of it is not run here.

    Raises:
        CheckpointError: the archive or the ONNX file in it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(BUNDLED_MODEL)
    except Exception as error:  # damage shows as almost any exception
        raise CheckpointError(f"{path}: cut short or damaged; copy it again") from error
    if weight_locations(content, path):
        raise CheckpointError(f"{path}: the weights of {BUNDLED_MODEL} are outside of it")
    return load_graph(content, path, options)


def _recognise(path: Path, head: bytes) -> bool:
    return BUNDLED_MODEL in archive_names(path, head)


BACKEND = Backend(
    "bundle",
    "an archive for a device maker's compiler",
    _recognise,
    load,
    meant_for="a device maker's compiler",
)
