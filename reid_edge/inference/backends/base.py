"""What the backends have in common."""

from __future__ import annotations

import os
import sys

from reid_edge.core.model_file import LoadOptions


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
