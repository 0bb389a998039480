"""Criterion ``fpgm``: distance to the other channels of the layer.

He et al., "Filter Pruning via Geometric Median", CVPR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def distances(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the sum of a channel's distances to all others (C,), by layer."""
    import torch

    scores: dict[str, Tensor] = {}
    for layer in request.layers:
        weight = request.weight(layer)
        scores[layer] = torch.stack([(weight - row).norm(p=2, dim=1).sum() for row in weight])
    return scores


FPGM = Criterion(
    "fpgm", "channels that are farthest from all others of their layer stay", "weights",
    distances,
)  # fmt: skip
