"""OpenVINO files as models for inference, run on the CPU."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_file
from reid_edge.inference.extras import import_extra
from reid_edge.inference.features import Embed
from reid_edge.inference.loaded_model import LoadedModel, parse_metadata

METADATA_SECTION = "reid_edge"
WEIGHTS_HASH = "weights_hash"
# Batch sizes for which a compiled model is kept; compiling takes up to a second.
_KEPT = 4


def load_openvino_file(path: Path) -> LoadedModel:
    """Load an OpenVINO file; its first input is images, its first output embeddings.

    Metadata (the keys of `parse_metadata`) is read from the section ``reid_edge`` of the file's
    ``rt_info``.

    Args:
        path: the graph, ``.xml``; the weights, ``.bin``, lie beside it under the same name.

    Raises:
        CheckpointError: one of the two files is missing or damaged, or they do not belong together.
        ModelError: the package openvino is not installed.
    """
    openvino = import_extra("openvino", path)
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
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: not a readable OpenVINO file (damaged, or needs a newer openvino)"
        ) from error
    values = _read_metadata(model)
    if values.pop(WEIGHTS_HASH, None) not in (None, hash_file(weights)):
        raise CheckpointError(f"{weights}: not the weights of {path.name}; copy both files again")
    if len(dimensions) != 4:
        raise CheckpointError(f"{path}: its input has {len(dimensions)} dimensions, not 4")
    if "input_size" not in values and None not in dimensions[2:]:
        values["input_size"] = dimensions[2:]
    metadata = parse_metadata(values, path)
    return LoadedModel(_runner(core, model, path), metadata, "OpenVINO", (weights,))


def _runner(core: Any, model: Any, path: Path) -> Embed:
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # On processors that have bfloat16, OpenVINO would take it without being asked.
        "INFERENCE_PRECISION_HINT": "f32",
    }

    # With a fixed batch OpenVINO takes a quarter less time than with a dynamic one.
    @lru_cache(_KEPT)
    def request(shape: tuple[int, ...]) -> Any:
        model.reshape(list(shape))
        return core.compile_model(model, "CPU", options).create_infer_request()

    def embed(images: Tensor) -> Tensor:
        try:
            output = request(tuple(images.shape)).infer([images.contiguous().numpy()])[0]
        except RuntimeError as error:
            height, width = images.shape[-2:]
            raise ModelError(f"{path}: the model fails on images of {height}x{width}") from error
        return torch.from_numpy(output.copy())

    return embed


def _read_metadata(model: Any) -> dict[str, Any]:
    if not model.has_rt_info([METADATA_SECTION]):
        return {}
    section = model.get_rt_info([METADATA_SECTION]).value
    return {key: str(getattr(value, "value", value)) for key, value in section.items()}
