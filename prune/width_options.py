"""Target widths: shares of the channels, by layer or name pattern, in whole multiples."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from prune.costs import CostModel, output_layers
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plans import is_of_one_width
from reid_edge.core.errors import PruneError


@dataclass(frozen=True)
class Unit:
    """Layers whose channels go together: they always have one width.

    Attributes:
        layers: their names; one alone, or a group.
        width: at full width.
    """

    layers: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class WidthOptions:
    """The layers of a model that may be cut, and their possible widths.

    Attributes:
        units: what may be cut, in the order of the forward pass.
        full: widths of all layers, also of those that are left alone.
        costs: of the model at any widths.
        multiple: widths that are chosen freely are multiples of it, if the full width allows.
    """

    units: tuple[Unit, ...]
    full: Mapping[str, int]
    costs: CostModel
    multiple: int = 1

    def widths(self, shares: Mapping[Unit, float]) -> dict[str, int]:
        """Return the widths of all layers for shares of the channels to keep, by unit."""
        found = dict(self.full)
        for unit, share in shares.items():
            width = self.rounded(unit, share * unit.width)
            found.update(dict.fromkeys(unit.layers, width))
        return found

    def rounded(self, unit: Unit, width: float) -> int:
        """Return the nearest width that a unit may have: a multiple, at least one of them."""
        multiple = min(self.multiple, unit.width)
        return min(unit.width, max(multiple, multiple * int(width / multiple + 0.5)))


def width_options(
    model: nn.Module,
    example: Tensor,
    *,
    cost_example: Tensor,
    untouched: Sequence[str] = (),
    multiple: int = 1,
    groups: Sequence[Sequence[str]] | None = None,
    section: str = "prune",
) -> WidthOptions:
    """Find the layers of a model that may be cut.

    Layers whose channels are the model's output, and those that the forward pass does not reach,
    are left alone.

    Args:
        model: at full width, in evaluation mode.
        example: input (2, 3, H, W) for tracing; small is fast.
        cost_example: input (1, 3, H, W); operations are counted for its size.
        untouched: patterns (``conv2.*``) of layers that are left alone, with all that share their
            channels.
        multiple: what widths are rounded to.
        groups: what :func:`prune.nni_backend.find_groups` returned for this model; none: they are
            found here, which takes seconds.
        section: of the settings that the patterns are from, for messages.

    Raises:
        PruneError: a pattern fits no layer, or nothing is left to cut.
    """
    full, costs = layer_widths(model), CostModel(model, cost_example)
    fixed = output_layers(model)
    fixed |= set(matching(untouched, costs.layers, f"{section}.untouched"))
    if groups is None:
        groups = find_groups(model, example)
    in_groups = {name for members in groups for name in members}
    alone = [(name,) for name in costs.layers if name not in in_groups]
    position = {name: index for index, name in enumerate(costs.layers)}
    units = [
        Unit(tuple(members), full[members[0]])
        for members in [*groups, *alone]
        if not fixed & set(members)
        and all(name in position for name in members)
        # Layers of different widths share only some channels, by a slice or a concatenation.
        and is_of_one_width(members, full)
    ]
    if not units:
        raise PruneError("nothing is left to cut: every layer is untouched or the model's output")
    units.sort(key=lambda unit: min(position[name] for name in unit.layers))
    return WidthOptions(tuple(units), full, costs, multiple)


def matching(patterns: Sequence[str], layers: Sequence[str], key: str) -> list[str]:
    """Return the layers that patterns fit, in the order of the layers.

    Raises:
        PruneError: a pattern fits no layer.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            near = difflib.get_close_matches(pattern, layers, n=1)
            if near:
                hint = f"; did you mean {near[0]!r}?"
            else:
                hint = f"; the first one is {layers[0]!r}" if layers else ": the model has none"
            raise PruneError(f"{key}: {pattern!r} fits no layer that can be cut{hint}")
    return [name for name in layers if any(fnmatchcase(name, p) for p in patterns)]


def shares_by_pattern(
    free: WidthOptions, ratio: float, ratios: Mapping[str, float]
) -> dict[Unit, float]:
    """Return the share of channels to keep, by unit.

    Args:
        free: what may be cut.
        ratio: for all that no pattern fits.
        ratios: by pattern of layer names; of several that fit a layer the last one counts.

    Raises:
        PruneError: a pattern fits nothing that may be cut, or layers that share their channels
            are given different ratios.
    """
    names = [name for unit in free.units for name in unit.layers]
    given: dict[str, float] = {}
    for pattern, value in ratios.items():
        given.update(dict.fromkeys(matching([pattern], names, "prune.ratios"), value))
    shares = {}
    for unit in free.units:
        named = [name for name in unit.layers if name in given]
        for name in named[1:]:
            if given[name] != given[named[0]]:
                raise PruneError(
                    f"prune.ratios: {named[0]!r} and {name!r} share their channels, so they cannot "
                    f"be given {given[named[0]]} and {given[name]}; name one of them, or both alike"
                )
        shares[unit] = given[named[0]] if named else ratio
    return shares
