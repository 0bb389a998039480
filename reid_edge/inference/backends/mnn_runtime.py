"""MNN files, run on the CPU in single precision; PyTorch is not needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    MNN_BATCH,
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


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an MNN file; its only input is images, its first output embeddings.

    Args:
        path: a ``.mnn`` file; its metadata is the JSON text in its field ``bizCode``.
        options: the number of threads counts.

    Raises:
        CheckpointError: the file or its metadata is damaged, or it does not take images alone.
        ModelError: the package MNN does not load.
    """
    # MNN prints what the processor can do.
    with native_output_silenced():
        mnn = import_package("MNN", extra="mnn", needed_by=path, error=ModelError)
        settings = {"backend": 0, "numThread": thread_count(options), "precision": "high"}
        try:
            runtime = mnn.nn.create_runtime_manager((settings,))
            net = mnn.nn.load_module_from_file(str(path), [], [], runtime_manager=runtime)
            about = net.get_info()
        except Exception as error:  # damage shows as almost any exception
            raise CheckpointError(
                f"{path}: not a readable MNN file (damaged, or needs a newer MNN)"
            ) from error
    if len(about["inputNames"]) != 1:
        names = ", ".join(about["inputNames"])
        raise CheckpointError(f"{path}: its inputs are {names}; expected images alone")
    try:
        metadata = ModelMetadata.from_strings(dict(json.loads(about["bizCode"] or "{}")), path)
    except (ValueError, TypeError, RecursionError):
        metadata = ModelMetadata()  # a note of another program

    def embed(images: Images) -> Embeddings:
        given = mnn.expr.const(
            np.ascontiguousarray(images), list(images.shape), mnn.expr.NCHW, mnn.expr.float
        )
        try:
            found = mnn.expr.convert(net.forward([given])[0], mnn.expr.NCHW)
            return np.array(found.read(), dtype=np.float32).reshape(len(images), -1)
        except Exception as error:
            height, width = images.shape[-2:]
            raise ModelError(f"{path}: the model fails on images of {height}x{width}") from error

    batch = metadata.notes.get(MNN_BATCH, "")
    whole = in_batches_of(int(batch), embed) if batch.isdecimal() and int(batch) else embed
    return LoadedModel(whole, metadata, "MNN")


def _recognise(path: Path, _: bytes) -> bool:
    return path.suffix.lower() == ".mnn"


BACKEND = Backend(
    "mnn",
    "an MNN file",
    _recognise,
    load,
    meant_for="phones, ARM boards (MNN)",
    packages=("MNN",),
    extra="mnn",
)
