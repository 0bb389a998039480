"""Criterion ``random``: the control that every other criterion has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def draw(request: ScoreRequest) -> dict[str, Tensor]:
    """Return random scores in [0, 1) (C,), by layer, as a function of the seed."""
    import torch

    generator = torch.Generator().manual_seed(request.seed)
    return {
        layer: torch.rand(len(request.weight(layer)), generator=generator)
        for layer in request.layers
    }


RANDOM = Criterion("random", "random channels stay", "weights", draw, relative=False)
