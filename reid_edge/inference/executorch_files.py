"""ExecuTorch files as models for inference, run on the CPU."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.inference.extras import import_extra
from reid_edge.inference.features import Embed
from reid_edge.inference.loaded_model import LoadedModel, parse_metadata

METADATA_METHOD = "metadata"


def load_executorch_file(path: Path) -> LoadedModel:
    """Load an ExecuTorch file; its method ``forward`` takes images and gives embeddings.

    Metadata (the keys of `parse_metadata`) is what its method ``metadata`` returns, a JSON object
    as text. XNNPACK's threads, of which a process has one set, become as many as PyTorch's.

    Args:
        path: a ``.pte`` file with all that it needs inside.

    Raises:
        CheckpointError: the file or its metadata is damaged, or needs what is not built in here.
        ModelError: the package executorch is not installed.
    """
    runtime = import_extra("executorch.runtime", path)
    native = import_extra("executorch.extension.pybindings.portable_lib", path)
    native._unsafe_reset_threadpool(torch.get_num_threads())
    try:
        program = runtime.Runtime.get().load_program(path)
        sizes = program.load_method("forward").metadata.input_tensor_meta(0).sizes()
        values = _read_metadata(program)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{path}: not a readable ExecuTorch file (damaged, or made for another version)"
        ) from error
    if len(sizes) != 4:
        raise CheckpointError(f"{path}: its input has shape {sizes}, not (N, 3, H, W)")
    values.setdefault("input_size", sizes[2:])
    return LoadedModel(_runner(program, sizes, path), parse_metadata(values, path), "ExecuTorch")


def _read_metadata(program: Any) -> dict[str, Any]:
    if METADATA_METHOD not in program.method_names:
        return {}
    (text,) = program.load_method(METADATA_METHOD).execute([])
    return dict(json.loads(text))


def _runner(program: Any, sizes: tuple[int, ...], path: Path) -> Embed:
    largest_batch, *image = sizes

    def run(images: Tensor) -> Tensor:
        output: Tensor = program.load_method("forward").execute([images.contiguous()])[0]
        return output

    def embed(images: Tensor) -> Tensor:
        # ExecuTorch itself takes all that fits into the memory that is planned.
        if list(images.shape[1:]) != image:
            height, width = images.shape[-2:]
            raise ModelError(f"{path}: the model fails on images of {height}x{width}")
        try:
            return torch.cat([run(part) for part in torch.split(images, largest_batch)])
        except RuntimeError as error:
            raise ModelError(f"{path}: the model fails on {len(images)} images") from error

    return embed
