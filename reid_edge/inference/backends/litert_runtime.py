"""LiteRT (TensorFlow Lite) files, run on the CPU; PyTorch is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    LITERT_METADATA,
    Backend,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.core.native_output import native_output_silenced
from reid_edge.core.packages import import_package
from reid_edge.inference.backends.base import in_batches_of, thread_count

_CHANNELS = 3


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load a LiteRT file; its only input is images, its first output embeddings.

    The channels of the images are the last dimension, or the second. Images and embeddings are
    float32, or int8 with one scale, which are converted.

    Args:
        path: a ``.tflite`` file.
        options: the number of threads counts.

    Raises:
        CheckpointError: the file or its metadata is damaged, or it does not take images alone.
        ModelError: the package ai-edge-litert does not load, or LiteRT cannot run the file.
    """
    runtime, schema = (
        import_package(f"ai_edge_litert.{name}", extra="litert", needed_by=path, error=ModelError)
        for name in ("interpreter", "schema_py_generated")
    )
    try:
        content = path.read_bytes()
        with native_output_silenced():  # it says which kernels it takes
            interpreter = runtime.Interpreter(
                model_content=content, num_threads=thread_count(options)
            )
            interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        values = _read_metadata(schema.Model.GetRootAs(content))
    except Exception as error:  # damage shows as almost any exception
        reason = " ".join(str(error).split())
        if "failed to prepare" in reason:
            # A kernel refuses its layer: XNNPACK, say, where two scales differ too much.
            raise ModelError(f"{path}: LiteRT cannot run it: {reason}") from error
        raise CheckpointError(
            f"{path}: not a readable LiteRT file (damaged, or needs a newer ai-edge-litert)"
        ) from error
    if not inputs or not outputs:
        raise CheckpointError(f"{path}: it has no input or no output; expected images alone")
    given, made = inputs[0], outputs[0]
    shape = tuple(int(side) for side in given["shape"])
    if len(inputs) != 1 or len(shape) != 4 or _CHANNELS not in (shape[1], shape[3]):
        shapes = ", ".join(str(tuple(each["shape"])) for each in inputs)
        raise CheckpointError(f"{path}: its inputs are {shapes}; expected images alone")
    channels_last = shape[3] == _CHANNELS
    size = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    metadata = ModelMetadata.from_strings({"input_size": list(size), **values}, path)

    def embed(images: Images) -> Embeddings:
        if images.shape[-2:] != size:
            height, width = images.shape[-2:]
            raise ModelError(
                f"{path}: the model fails on images of {height}x{width}; "
                f"it takes {size[0]}x{size[1]}"
            )
        ordered = images.transpose(0, 2, 3, 1) if channels_last else images
        interpreter.set_tensor(given["index"], _as_given(np.ascontiguousarray(ordered), given))
        interpreter.invoke()
        return _as_float(interpreter.get_tensor(made["index"]), made)

    return LoadedModel(in_batches_of(shape[0], embed), metadata, "LiteRT")


def _as_given(images: Images, details: Any) -> Any:
    """Return images as the input takes them: as they are, or rounded to its steps."""
    kind = np.dtype(details["dtype"])
    if kind == np.float32:
        return images
    scale, zero = details["quantization"]
    limits = np.iinfo(kind)
    return np.clip(np.rint(images / scale) + zero, limits.min, limits.max).astype(kind)


def _as_float(output: Any, details: Any) -> Embeddings:
    if output.dtype == np.float32:
        return np.array(output)
    scale, zero = details["quantization"]
    return np.asarray((output.astype(np.float32) - zero) * scale, dtype=np.float32)


def _read_metadata(model: Any) -> dict[str, Any]:
    """Return what the file says of its model, as strings."""
    for place in range(model.MetadataLength()):
        note = model.Metadata(place)
        if note.Name() == LITERT_METADATA.encode():
            return dict(json.loads(model.Buffers(note.Buffer()).DataAsNumpy().tobytes()))
    return {}


def _recognise(_: Path, head: bytes) -> bool:
    return head[4:8] == b"TFL3"


BACKEND = Backend(
    "litert",
    "a LiteRT file",
    _recognise,
    load,
    meant_for="phones, boards, microcontrollers (LiteRT)",
    packages=("ai_edge_litert",),
    extra="litert",
)
