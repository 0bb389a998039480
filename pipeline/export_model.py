"""The model of ``reid-edge export``: a checkpoint, or any program's ONNX or TorchScript file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_edge.cli.model_options import parse_colours, parse_input_size
from reid_edge.core.backends import recognise
from reid_edge.core.errors import ModelError, QuantizeError
from reid_edge.core.model_file import Colours, LoadedModel, LoadOptions, ModelMetadata
from reid_edge.inference.embedder import ImageEmbedder, embed_batch, load_embedder

if TYPE_CHECKING:
    import argparse

    from torch import nn


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and what its file may not say.

    Attributes:
        path: of its file.
        architecture: see `reid_edge.inference.embedder.load_embedder`, like the others.
        input_size: (height, width) in pixels.
        mean: of each colour.
        std: of each colour.
        weights_key: of a checkpoint with several.
    """

    path: Path
    architecture: str | None = None
    input_size: tuple[int, int] | None = None
    mean: Colours | None = None
    std: Colours | None = None
    weights_key: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> ModelChoice:
        """Return what the options name: ``model``, and those of `add_reading_options`.

        Raises:
            ModelError: an input size or a colour cannot be read.
        """
        return cls(
            options.model,
            options.architecture,
            parse_input_size(options.input_size),
            parse_colours("--mean", options.mean),
            parse_colours("--std", options.std),
            options.weights_key,
        )


@dataclass(frozen=True)
class ExportModel:
    """A model that files are made of.

    Attributes:
        embedder: gives the model's own embeddings.
        module: the PyTorch model of a checkpoint, in evaluation mode; None for other files.
        onnx_file: a float ONNX file of the model; None for a checkpoint.
        metadata: what its files say of it.
    """

    embedder: ImageEmbedder
    module: nn.Module | None
    onnx_file: Path | None
    metadata: ModelMetadata


def load_export_model(choice: ModelChoice, scratch: Path) -> ExportModel:
    """Load the model that files are to be made of.

    Args:
        choice: the file.
        scratch: a folder; the ONNX file of a TorchScript file is written there.

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        ModelError: it cannot be run here, or is of a kind that nothing can be made of.
        QuantizeError: it is int8 already, or is no network from images to embeddings.
    """
    path = choice.path
    backend = recognise(path)
    kind = backend.name
    if kind not in ("checkpoint", "onnx", "torchscript"):
        raise ModelError(
            f"{path}: is a file of {kind}, of which no others can be made; give the checkpoint, "
            "ONNX or TorchScript file that it was made of"
        )
    opened: list[LoadedModel] = []

    def load(path: Path, options: LoadOptions) -> LoadedModel:
        opened.append(backend.load(path, options))
        return opened[-1]

    embedder = load_embedder(
        path,
        backend=replace(backend, load=load),
        architecture=choice.architecture,
        input_size=choice.input_size,
        mean=choice.mean,
        std=choice.std,
        weights_key=choice.weights_key,
    )
    space = embedder.space
    metadata = ModelMetadata(
        architecture=space.architecture,
        input_size=space.input_size,
        colour_order=space.colour_order,
        mean=space.mean,
        std=space.std,
        parent_hash=space.file_hash,
    )
    if kind == "checkpoint":
        return ExportModel(embedder, opened[0].module, None, metadata)
    if kind == "onnx":
        import onnx

        from quantize.exporters.onnx_adopt import check_network

        check_network(onnx.load_model(path, load_external_data=False), path)
        return ExportModel(embedder, None, path, metadata)
    # What it does not take is said in one line here, and by the conversion in a page.
    embed_batch(embedder, np.zeros((1, 3, *space.input_size), np.float32))
    file = scratch / f"{path.stem}.onnx"
    _trace_torchscript(path, space.input_size, file)
    return ExportModel(embedder, None, file, metadata)


def _trace_torchscript(path: Path, size: tuple[int, int], file: Path) -> None:
    """Write a float TorchScript file as ONNX.

    Raises:
        QuantizeError: it is int8, or has what ONNX has not.
    """
    import torch

    from quantize.exporters.onnx_float import traced_onnx
    from quantize.quiet import torch_notices_silenced
    from reid_edge.inference.backends.torchscript_runtime import load_torchscript

    module, metadata = load_torchscript(path)
    if metadata.engine is not None:
        raise QuantizeError(f"{path}: is int8 already; give the float file that it was made of")
    with torch_notices_silenced(), torch.inference_mode():
        file.write_bytes(traced_onnx(module, torch.zeros(1, 3, *size), None))
