"""Criterion ``reconstruction``: the error that least squares cannot make up for without a channel.

A channel counts by what the layers that read it compute worse without it after the best linear fit
to the other channels (:mod:`prune.reconstruction_scores`), not by its own size. Backward
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
    from prune.reconstruction_scores import reconstruction_scores

    return reconstruction_scores(
        request.model, _images(request), widths=request.widths, groups=request.groups
    )


def errors_by_count(request: ScoreRequest) -> dict[str, Tensor]:
    """Return the squared error (C,) with n channels removed, n from 0, by layer."""
    from prune.reconstruction_scores import reconstruction_errors

    return reconstruction_errors(request.model, _images(request), groups=request.groups)


def _images(request: ScoreRequest) -> Tensor:
    import torch

    assert request.data is not None
    return torch.cat(list(request.data.batches))


RECONSTRUCTION = Criterion(
    "reconstruction", "channels whose loss a linear fit to the others cannot make up for stay",
    "images", elimination_ranks, losses=errors_by_count,
)  # fmt: skip
