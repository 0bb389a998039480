"""How much the loss depends on a channel's weights, to first order."""

import copy
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from prune.criteria import Scores
from reid_edge.core.cost import conv_and_linear_layers

Batch = TypeVar("Batch")


def taylor_scores(
    model: nn.Module, batches: Iterable[Batch], loss: Callable[[nn.Module, Batch], Tensor]
) -> Scores:
    """Score channels by the squared first-order change of the loss without their weights.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: the sum over
    a channel's weights of (weight * gradient)^2, averaged over the batches. NNI's TaylorPruner
    computes the same while a trainer runs; here there is none, only a few backward passes.

    Args:
        model: the model to score; it is left as it was.
        batches: of whatever ``loss`` takes.
        loss: from a copy of the model, which it may put into training mode, and a batch to a
            scalar.

    Returns:
        Scores of every output channel (C,), by layer; layers that the loss does not depend on are
        left out.
    """
    scored = copy.deepcopy(model)
    weights = {name: layer.weight for name, layer in conv_and_linear_layers(scored).items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    totals: Scores = {}
    count = 0
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)  # dropout, if there is any
        for batch in batches:
            scored.zero_grad()
            loss(scored, batch).backward()  # type: ignore[no-untyped-call]
            count += 1
            for name, weight in weights.items():
                if weight.grad is not None:
                    change = (weight.detach() * weight.grad).pow(2).flatten(1).sum(1)
                    totals[name] = totals.get(name, torch.zeros_like(change)) + change
    return {name: total / count for name, total in totals.items()}
