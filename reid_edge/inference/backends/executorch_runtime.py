"""ExecuTorch files, run on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    EXECUTORCH_METADATA,
    Backend,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.core.packages import import_package
from reid_edge.inference.backends.base import thread_count

if TYPE_CHECKING:
    from torch import Tensor


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an ExecuTorch file; its method ``forward`` takes images and gives embeddings.

    The options set the number of XNNPACK's threads, which all files of a process share.

    Args:
        path: a ``.pte`` file with all that it needs inside.
        options: the number of threads counts.

    Raises:
        CheckpointError: the file or its metadata is damaged, or needs what is not built in here.
        ModelError: the package executorch does not load.
    """
    import torch

    from reid_edge.inference.features import on_arrays

    runtime, native = (
        import_package(module, extra="executorch", needed_by=path, error=ModelError)
        for module in ("executorch.runtime", "executorch.extension.pybindings.portable_lib")
    )
    native._unsafe_reset_threadpool(thread_count(options))
    values: dict[str, Any] = {}
    try:
        program = runtime.Runtime.get().load_program(path)
        sizes = program.load_method("forward").metadata.input_tensor_meta(0).sizes()
        if EXECUTORCH_METADATA in program.method_names:
            (text,) = program.load_method(EXECUTORCH_METADATA).execute([])
            values = dict(json.loads(text))
    except Exception as error:  # damage shows as almost any exception
        raise CheckpointError(
            f"{path}: not a readable ExecuTorch file (damaged, or made for another version)"
        ) from error
    if len(sizes) != 4:
        raise CheckpointError(f"{path}: its input has shape {sizes}, not (N, 3, H, W)")
    largest_batch, _, height, width = sizes
    metadata = ModelMetadata.from_strings(values, path)
    if metadata.input_size is None:
        metadata = replace(metadata, input_size=(height, width))

    def run(images: Tensor) -> Tensor:
        # ExecuTorch itself takes all that fits into the memory that is planned.
        if list(images.shape[1:]) != list(sizes[1:]):
            raise ModelError(
                f"{path}: the model fails on images of {images.shape[-2]}x{images.shape[-1]}"
            )
        try:
            parts = [
                program.load_method("forward").execute([part.contiguous()])[0]
                for part in torch.split(images, largest_batch)
            ]
            return torch.cat(parts)
        except RuntimeError as error:
            raise ModelError(f"{path}: the model fails on {len(images)} images") from error

    return LoadedModel(on_arrays(run), metadata, "ExecuTorch")


def _recognise(_: Path, head: bytes) -> bool:
    return head[4:6] == b"ET"


BACKEND = Backend(
    "executorch",
    "ExecuTorch",
    _recognise,
    load,
    meant_for="ARM, x86-64 (ExecuTorch, XNNPACK)",
    packages=("executorch",),
    extra="executorch",
)
