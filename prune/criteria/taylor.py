"""Criterion ``taylor``: how much the loss depends on a channel's weights, to first order.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: the sum over a
channel's weights of (weight * gradient)^2, averaged over the batches. NNI's TaylorPruner computes
the same while a trainer runs; here there is none, only a few backward passes.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def loss_changes(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the squared first-order change of the loss without each channel (C,), by layer.

    Layers that the loss does not depend on are left out.
    """
    import torch

    from reid_edge.core.cost import conv_and_linear_layers

    data = request.data
    assert data is not None
    assert data.loss is not None
    scored = copy.deepcopy(request.model)
    weights = {name: layer.weight for name, layer in conv_and_linear_layers(scored).items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    totals: dict[str, Tensor] = {}
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)  # dropout, if there is any
        for done, (images, labels) in enumerate(zip(data.batches, data.labels, strict=True), 1):
            scored.zero_grad()
            data.loss(scored, images, labels).backward()  # type: ignore[no-untyped-call]
            for name, weight in weights.items():
                if weight.grad is not None:
                    change = (weight.detach() * weight.grad).pow(2).flatten(1).sum(1)
                    totals[name] = totals.get(name, torch.zeros_like(change)) + change
            data.progress(done, len(data.batches))
    return {name: total / len(data.batches) for name, total in totals.items()}


TAYLOR = Criterion(
    "taylor", "channels that the loss depends on most, to first order, stay",
    "labelled_images", loss_changes,
)  # fmt: skip
