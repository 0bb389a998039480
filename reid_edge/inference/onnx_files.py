"""ONNX files as models for inference, run by ONNX Runtime on the CPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.inference.features import Embed
from reid_edge.inference.loaded_model import LoadedModel, parse_metadata


def load_onnx_file(path: Path) -> LoadedModel:
    """Load an ONNX file; its first input is images, its first output embeddings.

    Metadata (the keys of `parse_metadata`) is read from the file's own metadata, or where that
    has none from a JSON file beside it, ``model.json`` or ``model.onnx.json``.

    Args:
        path: an ONNX file. A batch size that is fixed in the graph is kept to.

    Raises:
        CheckpointError: the file or its metadata is damaged, or it does not take images.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no base of their own.
        raise CheckpointError(
            f"{path}: not a readable ONNX file (damaged, or needs a newer onnxruntime)"
        ) from error
    images = session.get_inputs()[0]
    if len(images.shape) != 4:
        raise CheckpointError(f"{path}: its input has shape {images.shape}, not (N, 3, H, W)")
    batch, _, *sides = images.shape
    values = _read_metadata(session.get_modelmeta().custom_metadata_map, path)
    if "input_size" not in values and all(isinstance(side, int) for side in sides):
        values["input_size"] = sides
    run = _runner(session, images.name, path)
    embed = _in_batches_of(batch, run) if isinstance(batch, int) else run
    return LoadedModel(embed, parse_metadata(values, path), "ONNX", _weight_files(path))


def _runner(session: Any, name: str, path: Path) -> Embed:
    def embed(images: Tensor) -> Tensor:
        try:
            output = session.run(None, {name: images.contiguous().numpy()})[0]
        except Exception as error:
            height, width = images.shape[-2:]
            raise ModelError(
                f"{path}: the model fails on images of {height}x{width}; "
                "it may be made for another input size"
            ) from error
        return torch.from_numpy(np.array(output))

    return embed


def _in_batches_of(size: int, run: Callable[[Tensor], Tensor]) -> Embed:
    def embed(images: Tensor) -> Tensor:
        # The last images are filled up with themselves.
        places = torch.arange(-(-len(images) // size) * size) % len(images)
        embeddings = torch.cat([run(images[part]) for part in places.view(-1, size)])
        return embeddings[: len(images)]

    return embed


def _weight_files(path: Path) -> tuple[Path, ...]:
    """Name the files that the tensors of an ONNX file lie in, where they are not in it itself."""
    tensors = _tensors(onnx.load(path, load_external_data=False))
    return tuple(path.parent / name for name in sorted({
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }))  # fmt: skip


def _tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Go through all tensors of a protocol buffer: graphs hold graphs, functions and attributes."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            yield from _tensors(part)


def _read_metadata(stored: dict[str, str], path: Path) -> dict[str, Any]:
    if "input_size" in stored or "architecture" in stored:
        return dict(stored)
    for beside in (path.with_name(path.name + ".json"), path.with_suffix(".json")):
        if beside.is_file():
            try:
                return dict(json.loads(beside.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise CheckpointError(f"{beside}: not a readable JSON object") from error
    return {}
