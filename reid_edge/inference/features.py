"""Models of PyTorch as functions of arrays, and the embeddings of a data set's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_edge.core.devices import Precision, autocast
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.model_file import Embed as ArrayEmbed
from reid_edge.core.model_file import Embeddings, Images
from reid_edge.core.progress import Progress
from reid_edge.data.schema import Sample
from reid_edge.inference.embedder import EmbeddingSpace, check_embeddings, load_batches

# A module, or any function from images (N, 3, H, W) to embeddings (N, D).
Embed = Callable[[Tensor], Tensor]


def on_arrays(run: Callable[[Tensor], Any]) -> ArrayEmbed:
    """Return a function of PyTorch tensors as a function of NumPy arrays."""

    @torch.inference_mode()
    def embed(images: Images) -> Embeddings:
        output = run(torch.from_numpy(np.require(images, requirements=["C", "W"])))
        if isinstance(output, Tensor):
            output = output.float().cpu().numpy()
        # Anything else is returned as it is: the caller says that it is no embedding.
        embeddings: Embeddings = output
        return embeddings

    return embed


def embed_on(
    model: Embed, device: torch.device | str = "cpu", precision: Precision = "32-true"
) -> ArrayEmbed:
    """Return a model as a function from arrays of images to arrays of embeddings.

    Args:
        model: a module, which is put into evaluation mode and moved to the device; or a function
            or a TorchScript module, which is called with images on the CPU.
        device: where a module runs.
        precision: arithmetic of a module, as Lightning names it.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return on_arrays(model)
    model.eval().to(device)

    def run(images: Tensor) -> Any:
        with autocast(device, precision):
            # Depthwise and pointwise layers run faster with the channels innermost.
            return model(images.to(device).contiguous(memory_format=torch.channels_last))

    return on_arrays(run)


@freed_memory_kept()
def embed_batches(
    model: Embed, batches: Iterable[Tensor], *, device: torch.device | str = "cpu"
) -> Tensor:
    """Run a model over batches (B, 3, H, W) and return embeddings (N, D) on the CPU.

    Args:
        model: see `embed_on`.
        batches: normalised images.
        device: where a module runs.

    Raises:
        ModelError: an embedding is not finite, or zero in all dimensions.
    """
    embed = embed_on(model, device)
    parts = [embed(batch.numpy(force=True)) for batch in batches]
    return torch.from_numpy(check_embeddings(np.concatenate(parts)))


@freed_memory_kept()
def embed_images(
    model: Embed,
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "32-true",
    progress: Progress | None = None,
) -> Tensor:
    """Load images and return their embeddings (N, D) in order, on the CPU.

    Images are resized to (height, width) and normalised with ImageNet's mean and std.

    Args:
        model: see `embed_on`.
        images: of a data set.
        height: rows of the model's input.
        width: columns of the model's input.
        batch_size: images that go through the model together.
        workers: threads that decode images ahead of the model; 0 decodes them in this thread.
        device: where a module runs.
        precision: see `embed_on`.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
        ModelError: an embedding is not finite, or zero in all dimensions.
    """
    embed = embed_on(model, device, precision)
    space = EmbeddingSpace(file_hash="", input_size=(height, width))
    paths: list[Path] = [image.path for image in images]
    parts, done = [], 0
    for batch in load_batches(space, paths, batch_size, workers):
        parts.append(embed(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(paths))
    return torch.from_numpy(check_embeddings(np.concatenate(parts)))
