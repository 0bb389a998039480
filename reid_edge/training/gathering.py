"""Losses that compare embeddings see those of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rank, ctx.size, ctx.count = dist.get_rank(), dist.get_world_size(), len(rows)
        parts = [torch.empty_like(rows) for _ in range(ctx.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # All ranks compute the same loss from the same rows, so the gradient of these rows is the
        # same on every rank. Their sum over the ranks is what the mean of DDP has to begin with.
        start = ctx.rank * ctx.count
        own: Tensor = gradients[0][start : start + ctx.count]
        return own * int(ctx.size)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        # The values of this rank are in the losses of all.
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of values over all ranks; its gradient is that of the sum of all losses."""
    total: Tensor = _SumOverRanks.apply(values)
    return total


@dataclass(frozen=True)
class Together:
    """The ranks whose batches count as one.

    Attributes:
        size: number of ranks; with 1 all methods return what they are given.
    """

    size: int = 1

    def rows(self, values: Tensor) -> Tensor:
        """Return the rows (size * N, ...) of all ranks, in their order.

        The gradient is right where every rank computes the same loss from the result and the
        gradients of the parameters are averaged over the ranks, as DDP does.

        Args:
            values: rows of this rank (N, ...), as many as on every other rank.
        """
        if self.size == 1:
            return values
        gathered: Tensor = _GatherRows.apply(values)
        return gathered

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over all ranks, without a gradient."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.size


ALONE = Together()
