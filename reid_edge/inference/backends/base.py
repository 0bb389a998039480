"""What the backends have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.core.model_file import Embed, Embeddings, Images, LoadOptions

if TYPE_CHECKING:
    from torch import Tensor


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


def on_arrays(run: Callable[[Tensor], Any]) -> Embed:
    """Return a function of PyTorch tensors as a function of NumPy arrays."""
    import torch

    @torch.inference_mode()
    def embed(images: Images) -> Embeddings:
        output = run(torch.from_numpy(np.require(images, requirements=["C", "W"])))
        if isinstance(output, torch.Tensor):
            output = output.float().cpu().numpy()
        # Anything else is given as it is: the caller says that it is no embedding.
        embeddings: Embeddings = output
        return embeddings

    return embed
