"""What the backends have in common."""

from __future__ import annotations

import os
import sys

import numpy as np

from reid_edge.core.model_file import Embed, Embeddings, Images, LoadOptions


def thread_count(options: LoadOptions) -> int:
    """Return how many threads a runtime uses for a call."""
    if options.threads is not None:
        return options.threads
    # A program that runs PyTorch has said there how many threads it wants.
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_batches_of(size: int, embed: Embed) -> Embed:
    """Return a function of any number of images for a model that takes a fixed number.

    The last batch is filled up with images that are there.

    Args:
        size: images that the model takes.
        embed: the model.
    """

    def embed_any(images: Images) -> Embeddings:
        places = np.arange(-(-len(images) // size) * size) % len(images)
        parts = [embed(images[part]) for part in places.reshape(-1, size)]
        return np.concatenate(parts)[: len(images)]

    return embed_any
