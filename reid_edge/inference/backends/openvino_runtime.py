"""OpenVINO files, run on the CPU; PyTorch is not needed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_file
from reid_edge.core.model_file import (
    OPENVINO_METADATA,
    OPENVINO_PRECISION,
    OPENVINO_WEIGHTS_HASH,
    Backend,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.core.packages import import_package
from reid_edge.inference.backends.base import in_batches_of, thread_count

# Batch sizes for which a compiled model is kept; compiling takes up to a second.
_KEPT = 4


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an OpenVINO file; its first input is images, its first output embeddings.

    Args:
        path: the graph, ``.xml``; the weights, ``.bin``, are beside it under the same name.
        options: the number of threads counts.

    A batch size that is fixed in the graph is kept to.

    Raises:
        CheckpointError: one of the two files is missing or damaged, or they do not belong together.
        ModelError: the package openvino does not load.
    """
    openvino = import_package("openvino", extra="openvino", needed_by=path, error=ModelError)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; an OpenVINO model is two, copy both")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        dimensions = [
            None if side.is_dynamic else side.get_length()
            for side in model.input(0).get_partial_shape()
        ]
        values = _read_values(model)
    except Exception as error:  # damage shows as almost any exception
        raise CheckpointError(
            f"{path}: not a readable OpenVINO file (damaged, or needs a newer openvino)"
        ) from error
    if values.pop(OPENVINO_WEIGHTS_HASH, None) not in (None, hash_file(weights)):
        raise CheckpointError(f"{weights}: not the weights of {path.name}; copy both files again")
    if len(dimensions) != 4:
        raise CheckpointError(f"{path}: its input has {len(dimensions)} dimensions, not 4")
    metadata = ModelMetadata.from_strings(values, path)
    _, _, height, width = dimensions
    if metadata.input_size is None and height is not None and width is not None:
        metadata = replace(metadata, input_size=(height, width))
    settings = {
        "INFERENCE_NUM_THREADS": thread_count(options),
        "PERFORMANCE_HINT": "LATENCY",
        # On processors that have bfloat16, OpenVINO would take it without being asked.
        "INFERENCE_PRECISION_HINT": metadata.notes.get(OPENVINO_PRECISION, "f32"),
    }

    # With a fixed batch OpenVINO takes a quarter less time than with a dynamic one.
    @lru_cache(_KEPT)
    def request(shape: tuple[int, ...]) -> Any:
        model.reshape(list(shape))
        return core.compile_model(model, "CPU", settings).create_infer_request()

    def embed(images: Images) -> Embeddings:
        try:
            output = request(images.shape).infer([np.ascontiguousarray(images)])[0]
        except RuntimeError as error:
            height, width = images.shape[-2:]
            raise ModelError(f"{path}: the model fails on images of {height}x{width}") from error
        return np.array(output)

    batch = dimensions[0]
    whole = embed if batch is None else in_batches_of(batch, embed)
    return LoadedModel(whole, metadata, "OpenVINO", (weights,))


def _read_values(model: Any) -> dict[str, Any]:
    """Return what the file says of its model, as strings."""
    if not model.has_rt_info([OPENVINO_METADATA]):
        return {}
    section = model.get_rt_info([OPENVINO_METADATA]).value
    return {key: str(getattr(value, "value", value)) for key, value in section.items()}


def _recognise(_: Path, head: bytes) -> bool:
    return head[:5] == b"<?xml" and b"<net" in head


BACKEND = Backend(
    "openvino",
    "the .xml of an OpenVINO file",
    _recognise,
    load,
    meant_for="Intel (OpenVINO)",
    packages=("openvino",),
    extra="openvino",
    parts={".xml": (".bin",)},
)
