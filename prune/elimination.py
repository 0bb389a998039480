"""Backward elimination: remove channels in the order that costs their readers least."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Up to this number of channels, one is removed at a time. With more channels, several are removed
# at once, so the cost stays the same multiple of the cost of one inversion.
STEPS = 64


@dataclass(frozen=True)
class Regression:
    """What a layer computes, as a regression on its input channels.

    Attributes:
        inverse: (C, C), of the channels' second moments.
        coefficients: (C, O), weights with which the channels give the outputs best.
    """

    inverse: Tensor
    coefficients: Tensor

    def costs(self) -> Tensor:
        """Return (C,): the growth of the squared error if one channel is removed.

        The remaining coefficients are fitted again without that channel, so this is the error that
        reconstruction cannot compensate.
        """
        return self.coefficients.pow(2).sum(1) / self.inverse.diagonal()

    def cost_of(self, removed: Tensor) -> float:
        """Return the growth of the squared error if some channels are removed together."""
        coefficients = self.coefficients[removed]
        solved = torch.linalg.solve(self.inverse[removed][:, removed], coefficients)
        return float((coefficients * solved).sum())

    def without(self, removed: Tensor) -> "Regression":
        """Return the best fit without some channels."""
        solved = torch.linalg.solve(self.inverse[removed][:, removed], self.inverse[removed])
        kept = torch.ones(len(self.inverse), dtype=torch.bool)
        kept[removed] = False
        shared = self.inverse[kept][:, removed]
        return Regression(
            self.inverse[kept][:, kept] - shared @ solved[:, kept],
            self.coefficients[kept] - solved[:, kept].T @ self.coefficients[removed],
        )

    def among(self, channels: Tensor) -> "Regression":
        """Return the regression of these channels, to remove some of them one by one."""
        return Regression(self.inverse[channels][:, channels], self.coefficients[channels])


def regression(moments: Tensor, weights: Tensor, *, ridge: float) -> Regression | None:
    """Return the regression on all channels.

    Args:
        moments: (C, C) covariance of the input channels.
        weights: (O, C) that map them to outputs.
        ridge: added to the diagonal, as a share of its mean.

    Returns:
        The regression in units of the outputs' energy; None if the outputs do not vary.
    """
    moments, weights = moments.double(), weights.double()
    energy = ((weights @ moments) * weights).sum()
    if energy <= 0:
        return None
    pull = ridge * moments.diagonal().mean()
    inverse = torch.linalg.inv(moments + pull * torch.eye(len(moments), dtype=torch.float64))
    return Regression(inverse, weights.T / energy.sqrt())


@dataclass(frozen=True)
class Elimination:
    """Channels in the order of their removal.

    Attributes:
        order: (C,) channels, the one that is removed first first.
        errors: (C,) total growth of the squared error after each removal, in the same order and in
            units of the outputs' energy; infinite for the last channel.
    """

    order: Tensor
    errors: Tensor


def eliminate(regressions: Sequence[Regression]) -> Elimination:
    """Remove channels, each time the one whose loss raises the error of all regressions least.

    Backward elimination fits the other coefficients again after each step. So of two channels with
    the same information one is removed early and the other stays. For one output this is the
    optimal brain surgeon of Hassibi and Stork, NIPS 1992.

    Args:
        regressions: of all layers that read the channels, at least one.
    """
    remaining = torch.arange(len(regressions[0].inverse))
    block = -(-len(remaining) // STEPS)
    order: list[Tensor] = []
    raised: list[Tensor] = []
    while len(remaining) > 1:
        removed = _weakest(regressions, min(block, len(remaining) - 1))
        order.append(remaining[removed])
        together = sum(regression.cost_of(removed) for regression in regressions)
        raised.append(torch.full((len(removed),), together / len(removed), dtype=torch.float64))
        regressions = [regression.without(removed) for regression in regressions]
        kept = torch.ones(len(remaining), dtype=torch.bool)
        kept[removed] = False
        remaining = remaining[kept]
    last = torch.full((len(remaining),), torch.inf, dtype=torch.float64)
    return Elimination(torch.cat([*order, remaining]), torch.cat([*raised, last]).cumsum(0))


def _weakest(regressions: Sequence[Regression], count: int) -> Tensor:
    """Return ``count`` channels to remove one after the other, of twice as many candidates."""
    costs = torch.stack([regression.costs() for regression in regressions]).sum(0)
    if count == 1:
        return costs.argmin().unsqueeze(0)
    candidates = costs.argsort(stable=True)[: 2 * count]
    regressions = [regression.among(candidates) for regression in regressions]
    removed = []
    for _ in range(count):
        weakest = _weakest(regressions, 1)
        removed.append(candidates[weakest])
        regressions = [regression.without(weakest) for regression in regressions]
        candidates = torch.cat([candidates[:weakest], candidates[weakest + 1 :]])
    return torch.cat(removed)
