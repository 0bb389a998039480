"""Criterion ``reconstruction``: the error without a channel that least squares cannot compensate.

The score of a channel is the error of the layers that read it when the channel is removed and the
others are fitted again (:mod:`prune.reconstruction_scores`); its own size does not count. Backward
elimination as in Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain
Surgeon", NIPS 1992.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor


def elimination_ranks(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the rank (C,) at which a channel is removed, by layer; the last one scores C."""
    import torch

    from prune.reconstruction_scores import reconstruction_scores

    data = request.data
    assert data is not None
    return reconstruction_scores(
        request.model,
        torch.cat(list(data.batches)),
        widths=request.widths,
        groups=request.groups,
        ask=data.ask,
        progress=data.progress,
    )


def errors_by_count(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the squared error (C,) with n channels removed, n from 0, by layer."""
    import torch

    from prune.reconstruction_scores import reconstruction_errors

    data = request.data
    assert data is not None
    return reconstruction_errors(
        request.model,
        torch.cat(list(data.batches)),
        groups=request.groups,
        ask=data.ask,
        progress=data.progress,
    )


RECONSTRUCTION = Criterion(
    "reconstruction", "channels whose loss a linear fit to the others cannot make up for stay",
    "images", elimination_ranks, losses=errors_by_count,
)  # fmt: skip
