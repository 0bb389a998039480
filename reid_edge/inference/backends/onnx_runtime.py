"""ONNX files, run by ONNX Runtime on the CPU; PyTorch is not needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    Backend,
    Embed,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.inference.backends.base import thread_count


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an ONNX file; its first input is images, its first output embeddings.

    Metadata is read from the file's own metadata, or where that has none from a JSON file beside
    it, ``model.json`` or ``model.onnx.json``. A batch size that is fixed in the graph is kept to.

    Raises:
        CheckpointError: the file or its metadata is damaged, or it does not take images.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = thread_count(options)
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no base of their own.
        raise CheckpointError(
            f"{path}: not a readable ONNX file (damaged, or needs a newer onnxruntime)"
        ) from error
    images = session.get_inputs()[0]
    if len(images.shape) != 4:
        raise CheckpointError(f"{path}: its input has shape {images.shape}, not (N, 3, H, W)")
    batch, _, *sides = images.shape
    metadata = _read_metadata(session.get_modelmeta().custom_metadata_map, path)
    if metadata.input_size is None and all(isinstance(side, int) for side in sides):
        height, width = sides
        metadata = replace(metadata, input_size=(height, width))

    def embed(given: Images) -> Embeddings:
        try:
            output = session.run(None, {images.name: np.ascontiguousarray(given)})[0]
        except Exception as error:
            height, width = given.shape[-2:]
            raise ModelError(
                f"{path}: the model fails on images of {height}x{width}; "
                "it may be made for another input size"
            ) from error
        return np.array(output)

    whole = _in_batches_of(batch, embed) if isinstance(batch, int) else embed
    return LoadedModel(whole, metadata, "ONNX", _weight_files(path))


def _in_batches_of(size: int, embed: Embed) -> Embed:
    def embed_any(images: Images) -> Embeddings:
        # The last images are filled up with themselves.
        places = np.arange(-(-len(images) // size) * size) % len(images)
        parts = [embed(images[part]) for part in places.reshape(-1, size)]
        return np.concatenate(parts)[: len(images)]

    return embed_any


def _weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside an ONNX file that hold its tensors, if any do."""
    # The key of such a file's name. The package onnx is needed for such files only.
    if b"location" not in path.read_bytes():
        return ()
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            f"{path}: its weights are in files beside it, which takes the package onnx to find: "
            "pip install onnx"
        ) from error

    def tensors(message: Any) -> Iterator[onnx.TensorProto]:
        """Go through all tensors: graphs hold graphs, functions and attributes."""
        if isinstance(message, onnx.TensorProto):
            yield message
            return
        for field, value in message.ListFields():
            if field.message_type is not None:
                for part in [value] if hasattr(value, "ListFields") else value:
                    yield from tensors(part)

    names = {
        entry.value
        for tensor in tensors(onnx.load(path, load_external_data=False))
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / name for name in sorted(names))


def _read_metadata(stored: dict[str, str], path: Path) -> ModelMetadata:
    if "input_size" in stored or "architecture" in stored:
        return ModelMetadata.from_strings(stored, path)
    for beside in (path.with_name(path.name + ".json"), path.with_suffix(".json")):
        if beside.is_file():
            try:
                values = dict(json.loads(beside.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise CheckpointError(f"{beside}: not a readable JSON object") from error
            return ModelMetadata.from_strings(values, path)
    return ModelMetadata()


def _recognise(path: Path, head: bytes) -> bool:
    # An ONNX file is a protocol buffer that begins with its version, field 1, a small number.
    return path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and len(head) >= 4)


BACKEND = Backend("onnx", "ONNX", _recognise, load, meant_for="any (ONNX Runtime)")
