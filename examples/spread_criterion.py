"""A criterion: the channels whose weights vary most stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def weight_spread(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the standard deviation of every channel's weights (C,), by layer."""
    return {layer: request.weight(layer).std(dim=1, correction=0) for layer in request.layers}


SPREAD = Criterion(
    name="spread",
    description="channels whose weights vary most stay",
    needs="weights",
    score=weight_spread,
)
