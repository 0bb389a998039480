"""Embeddings of a data set's images, shared out over the ranks by whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reid_edge.core.errors import DataError
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.model_file import Embed, Embeddings
from reid_edge.core.progress import Progress
from reid_edge.data.schema import Sample
from reid_edge.inference.embedder import (
    EmbeddingSpace,
    ImageEmbedder,
    check_distinct,
    check_embeddings,
    embed_batch,
    load_batches,
    prepare_image,
)
from reid_edge.inference.features import embed_on
from reid_edge.training.jobs import EmbedJob, send_job
from reid_edge.training.world import World


def embed_together(
    world: World,
    architecture: str,
    model: nn.Module,
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    batch_size: int,
    workers: int,
    device: str,
    progress: Progress | None = None,
) -> Tensor:
    """Return the embeddings (N, D) of images on rank zero; the others have to serve.

    Every batch has the images that it has in one process, so that the embeddings are the same.

    Args:
        world: the ranks.
        architecture: of the model; its widths may differ.
        model: that embeds them.
        images: of a data set.
        height: rows of the model's input.
        width: columns of the model's input.
        batch_size: images that go through the model together.
        workers: threads of each rank that decode images ahead of the model.
        device: where the model runs.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
        ModelError: an embedding is not finite, or zero in all dimensions.
    """
    job = EmbedJob(
        images=tuple(str(image.path) for image in images),
        height=height,
        width=width,
        batch_size=batch_size,
        workers=workers,
        device=device,
    )
    send_job(world, "embed", job, model, architecture=architecture, input_size=(height, width))
    whole = embed_share(world, model, job, progress)
    if len(whole) != len(images):
        raise DataError(f"{len(whole)} embeddings of {len(images)} images came back")
    check_embeddings(whole.numpy())
    return whole


def embed_share(
    world: World, model: nn.Module, job: EmbedJob, progress: Progress | None = None
) -> Tensor:
    """Embed the batches of this rank; return the embeddings of all, in order, on rank zero."""
    device = f"cuda:{world.launch.local_rank}" if job.device == "cuda" else job.device
    embed = embed_on(model, device)
    space = EmbeddingSpace(file_hash="", input_size=(job.height, job.width))
    paths = [world.local_path(Path(path)) for path in job.images]
    return _embed_in_order(world, embed, space, paths, job.batch_size, job.workers, progress)


def embed_files_together(
    world: World,
    embedder: ImageEmbedder,
    paths: Sequence[Path | str],
    *,
    batch_size: int = 32,
    workers: int = 0,
    progress: Progress | None = None,
) -> Embeddings:
    """Return the embeddings (N, D) of image files on rank zero, and nothing on the others.

    All ranks call it with the same arguments; see
    :func:`reid_edge.inference.embedder.embed_files`.

    Raises:
        DataError: an image cannot be read.
        ModelError: the model fails, or gives the same embedding for all images.
    """
    files = [Path(path) for path in paths]
    embed = partial(embed_batch, embedder)
    whole = _embed_in_order(
        world, embed, embedder.space, files, batch_size, workers, progress
    ).numpy()
    if world.rank == 0:
        check_embeddings(whole, embedder.path)
        if len(whole) > 1:
            check_distinct(embedder, whole, prepare_image(files[0], embedder.space)[None])
    return whole


@freed_memory_kept()
def _embed_in_order(
    world: World,
    embed: Embed,
    space: EmbeddingSpace,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    progress: Progress | None,
) -> Tensor:
    """Embed every so many of the batches, beginning with that of this rank.

    Returns:
        The embeddings of all ranks' batches in the order of the images on rank zero, and nothing
        on the others.
    """
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    mine = [path for batch in batches[world.rank :: world.size] for path in batch]
    made, done = [], 0
    for batch in load_batches(space, mine, batch_size, workers):
        made.append(embed(batch))
        done += len(batch)
        if progress is not None:
            progress(min(done * world.size, len(paths)), len(paths))
    gathered = world.gather(torch.from_numpy(np.concatenate(made)) if made else torch.empty(0, 0))
    if world.rank > 0:
        return torch.empty(0, 0)
    parts = [torch.split(part, batch_size) for part in gathered]
    return torch.cat(
        [parts[number % world.size][number // world.size] for number in range(len(batches))]
    )
