"""Criterion ``l2``: the L2 norm of a channel's weights.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def l2_norms(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the L2 norm of every channel's weights (C,), by layer."""
    return {layer: request.weight(layer).norm(p=2, dim=1) for layer in request.layers}


L2 = Criterion("l2", "channels whose weights have the largest L2 norm stay", "weights", l2_norms)
