"""Widths under a limit of parameters or operations."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from prune.criteria import CRITERIA
from prune.criteria.criterion import Criterion, ScoreRequest, ScoringData, score_channels
from prune.width_options import Unit, WidthOptions
from reid_edge.core.cost import ModelCost
from reid_edge.core.errors import PruneError

SMALLEST_SHARE = 0.125
STEPS = 60

Measure = Callable[[ModelCost], float]
Distribution = Literal["uniform", "by_loss"]


def within_limit(
    options: WidthOptions,
    limit: float,
    measure: Measure,
    losses: Mapping[str, Tensor] | None = None,
) -> dict[str, int]:
    """Return the widest layers under a limit.

    Args:
        options: what may be cut.
        limit: largest allowed value of the measure; up to 1 it is a share of the full width's.
        measure: of a model's cost: its operations, say.
        losses: as in :func:`by_loss`; None: the same share of channels everywhere.

    Raises:
        PruneError: the limit is below what can be reached.
    """
    if limit <= 1:
        limit = limit * measure(options.costs.cost({}))
    if losses is None:
        return uniform(options, limit, measure)
    return by_loss(options, losses, limit, measure)


def uniform(options: WidthOptions, limit: float, measure: Measure) -> dict[str, int]:
    """Keep the same share of channels everywhere, the largest that the budget allows.

    Args:
        options: what may be cut.
        limit: largest allowed value of the measure.
        measure: of a model's cost: its operations, say.

    Raises:
        PruneError: the budget is below what can be reached.
    """

    def at(share: float) -> dict[str, int]:
        return options.widths(dict.fromkeys(options.units, share))

    return largest(at, options, limit, measure)


def by_loss(
    options: WidthOptions, losses: Mapping[str, Tensor], limit: float, measure: Measure
) -> dict[str, int]:
    """Remove the channels whose loss is smallest for what they save.

    One price for a unit of the measure applies to all groups: a group loses channels as long as
    their loss is below the price of what they save. This is the Lagrangian of the smallest loss
    under a limit. The price is the lowest that meets the limit.

    Args:
        options: what may be cut.
        losses: with n channels removed (C,), n from 0, by layer, see :func:`removal_losses`.
        limit: largest allowed value of the measure.
        measure: of a model's cost.

    Raises:
        PruneError: the budget is below what can be reached, or nothing is known of a unit's losses.
    """
    by_unit: dict[Unit, Tensor] = {}
    savings: dict[Unit, float] = {}
    full = measure(options.costs.cost({}))
    for unit in options.units:
        known = next((losses[name] for name in unit.layers if name in losses), None)
        if known is None:
            raise PruneError(
                f"nothing is known of what is lost without channels of {unit.layers[0]!r}; if a "
                "slice of them is read, what it costs cannot be measured: leave the layer "
                "untouched, or give all layers one share"
            )
        by_unit[unit] = known.double()
        # A channel saves what half of the channels save on average, as a share of the model.
        half = unit.width // 2
        narrow = measure(options.costs.cost(dict.fromkeys(unit.layers, unit.width - half)))
        savings[unit] = (full - narrow) / half / full if half else 0.0

    def at(inverse_price: float) -> dict[str, int]:
        price = 1 / max(inverse_price, 1e-12) - 1
        shares = {}
        for unit, loss in by_unit.items():
            removed = torch.arange(len(loss)) * savings[unit]
            total = loss - price * removed
            shares[unit] = (unit.width - int(total.argmin())) / unit.width
        return options.widths({u: max(share, SMALLEST_SHARE) for u, share in shares.items()})

    return largest(at, options, limit, measure)


def removal_losses(
    options: WidthOptions, model: nn.Module, criterion: Criterion, data: ScoringData | None
) -> dict[str, Tensor]:
    """Return the loss of removing the n weakest channels of every layer that may be cut.

    Args:
        options: what may be cut.
        model: at full width, on the CPU.
        criterion: what ranks channels.
        data: what the criterion is measured on; without it, the norms of the weights are used.

    Returns:
        Losses (C,), n from 0, by layer: those of the criterion if it measures losses, and
        otherwise the energy of the L2 norms, see :func:`energy_losses`.
    """
    groups = [unit.layers for unit in options.units]
    layers = tuple(name for members in groups for name in members)
    request = ScoreRequest(model, layers, options.full, groups, data=data)
    if criterion.losses is not None and (data is not None or criterion.needs == "weights"):
        return criterion.losses(request)
    return energy_losses(options, score_channels(CRITERIA.load("l2"), request))


def energy_losses(options: WidthOptions, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the loss of removing the n weakest channels, from their scores alone.

    The loss is -log of the kept share of a group's energy (the sum of the squared scores). The
    first removed channels cost little, and the cost of the last ones grows without a limit.

    Args:
        options: what may be cut.
        scores: of every channel (C,), by layer, as a criterion gives them.

    Returns:
        Losses (C,), n from 0, by layer.
    """
    losses: dict[str, Tensor] = {}
    for unit in options.units:
        known = [scores[name].double() for name in unit.layers if name in scores]
        energy = torch.stack(known).mean(0).square().sort().values
        lost = torch.cat([torch.zeros(1), energy.cumsum(0)[:-1]])
        kept = 1 - lost / energy.sum().clamp_min(1e-12)
        losses |= dict.fromkeys(unit.layers, -kept.clamp_min(1e-12).log())
    return losses


def largest(
    at: Callable[[float], dict[str, int]],
    options: WidthOptions,
    limit: float,
    measure: Measure,
    *,
    high: float = 1.0,
) -> dict[str, int]:
    """Return the widths of the largest number that meet a limit, by halving.

    Args:
        at: widths by number; the larger the number, the wider.
        options: what may be cut.
        limit: largest allowed value of the measure.
        measure: of a model's cost.
        high: the largest number there is; the least is 0.

    Raises:
        PruneError: even the narrowest widths are above the limit.
    """

    def cost(number: float) -> float:
        return measure(options.costs.cost(at(number)))

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
