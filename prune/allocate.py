"""Widths under a budget: how many channels each group of layers may keep."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prune.targets import Unit, WidthOptions
from reid_edge.core.cost import ModelCost
from reid_edge.core.errors import PruneError

SMALLEST_SHARE = 0.125
STEPS = 60

Measure = Callable[[ModelCost], float]


def uniform(free: WidthOptions, limit: float, measure: Measure) -> dict[str, int]:
    """Keep the same share of channels everywhere, the largest that the budget allows.

    Args:
        free: what may be cut.
        limit: largest allowed value of the measure.
        measure: of a model's cost: its operations, say.

    Raises:
        PruneError: the budget is below what can be reached.
    """

    def at(share: float) -> dict[str, int]:
        return free.widths(dict.fromkeys(free.units, share))

    return largest(at, free, limit, measure)


def by_loss(
    free: WidthOptions, losses: Mapping[str, Tensor], limit: float, measure: Measure
) -> dict[str, int]:
    """Keep the channels that matter most for what they cost.

    One price a unit of measure for all groups: every group gives up channels as long as what it
    loses is below the price of what it saves (the Lagrangian of least loss under a budget), and
    the price is set so that the budget is met.

    Args:
        free: what may be cut.
        losses: with n channels gone (C,), n from 0, by layer: :func:`energy_losses`, or what
            :func:`prune.reconstruction_scores.reconstruction_errors` measures.
        limit: largest allowed value of the measure.
        measure: of a model's cost.

    Raises:
        PruneError: the budget is below what can be reached, or nothing is known of a unit's losses.
    """
    by_unit = {unit: _losses_of(unit, losses) for unit in free.units}
    savings = {unit: _saving_a_channel(free, unit, measure) for unit in free.units}

    def at(thrift: float) -> dict[str, int]:
        price = 1 / max(thrift, 1e-12) - 1
        shares = {}
        for unit, loss in by_unit.items():
            removed = torch.arange(len(loss)) * savings[unit]
            total = loss - price * removed
            shares[unit] = (unit.width - int(total.argmin())) / unit.width
        return free.widths({u: max(share, SMALLEST_SHARE) for u, share in shares.items()})

    return largest(at, free, limit, measure)


def _losses_of(unit: Unit, losses: Mapping[str, Tensor]) -> Tensor:
    known = next((losses[name] for name in unit.layers if name in losses), None)
    if known is None:
        raise PruneError(
            f"nothing is known of what is lost without channels of {unit.layers[0]!r}; if a slice "
            "of them is read, what it costs cannot be measured: leave the layer untouched, or give "
            "all layers one share"
        )
    return known.double()


def energy_losses(free: WidthOptions, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is lost without the n weakest channels, from their scores alone.

    That is -log of the share of a group's energy (the sum of the squared scores) that is kept, so
    that the first channels go cheaply and the last ones at any price.

    Args:
        free: what may be cut.
        scores: of every channel (C,), by layer, as a criterion gives them.

    Returns:
        Losses (C,), n from 0, by layer.
    """
    losses: dict[str, Tensor] = {}
    for unit in free.units:
        known = [scores[name].double() for name in unit.layers if name in scores]
        energy = torch.stack(known).mean(0).square().sort().values
        lost = torch.cat([torch.zeros(1), energy.cumsum(0)[:-1]])
        kept = 1 - lost / energy.sum().clamp_min(1e-12)
        losses |= dict.fromkeys(unit.layers, -kept.clamp_min(1e-12).log())
    return losses


def _saving_a_channel(free: WidthOptions, unit: Unit, measure: Measure) -> float:
    """Return what half of a unit's channels save, a channel, as a share of the whole model."""
    half = unit.width // 2
    if half == 0:
        return 0.0
    narrow = measure(free.costs.cost(dict.fromkeys(unit.layers, unit.width - half)))
    full = measure(free.costs.cost({}))
    return (full - narrow) / half / full


def largest(
    at: Callable[[float], dict[str, int]],
    free: WidthOptions,
    limit: float,
    measure: Measure,
    *,
    high: float = 1.0,
) -> dict[str, int]:
    """Return the widths of the largest number that meet a limit, by halving.

    Args:
        at: widths by number; the larger the number, the wider.
        free: what may be cut.
        limit: largest allowed value of the measure.
        measure: of a model's cost.
        high: the largest number there is; the least is 0.

    Raises:
        PruneError: even the narrowest widths are above the limit.
    """

    def cost(number: float) -> float:
        return measure(free.costs.cost(at(number)))

    low = 0.0
    if cost(high) <= limit:
        return at(high)
    if cost(low) > limit:
        raise PruneError(
            f"the budget of {limit:,.0f} cannot be met: the narrowest model that is left has "
            f"{cost(low):,.0f}; raise it, or leave fewer layers untouched"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        if cost(middle) <= limit:
            low = middle
        else:
            high = middle
    return at(low)
