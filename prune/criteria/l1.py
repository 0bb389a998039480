"""Criterion ``l1``: the L1 norm of a channel's weights.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def l1_norms(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the L1 norm of every channel's weights (C,), by layer."""
    return {layer: request.weight(layer).norm(p=1, dim=1) for layer in request.layers}


L1 = Criterion("l1", "channels whose weights have the largest L1 norm stay", "weights", l1_norms)
