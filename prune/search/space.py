"""From proportions to widths whose operations stay below a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prune.budgets import largest
from prune.width_options import Unit, WidthOptions, matching
from reid_edge.core.errors import PruneError

Patterns = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class SearchSpace:
    """Proportions that are searched, and the widths that they mean.

    Only the ratios of the variables matter: they are scaled together to the limit, so every sample
    is a valid plan.

    Attributes:
        free: what may be cut.
        variables: what each proportion moves.
        limit: of the multiply-accumulates for one image.
    """

    free: WidthOptions
    variables: Mapping[str, tuple[Unit, ...]]
    limit: int

    def widths(self, sample: Mapping[str, float]) -> dict[str, int]:
        """Return the widths of all layers that a sample means: the widest below the limit.

        Args:
            sample: a proportion, above 0, for each variable.

        Raises:
            PruneError: even the narrowest widths are above the limit.
        """

        def scaled(scale: float) -> dict[str, int]:
            return self.free.widths(
                {
                    unit: min(1.0, scale * sample[variable])
                    for variable, units in self.variables.items()
                    for unit in units
                }
            )

        return largest(
            scaled,
            self.free,
            self.limit,
            lambda cost: cost.macs,
            high=1 / min(sample.values()),
        )


def make_space(free: WidthOptions, patterns: Patterns, limit: int) -> SearchSpace:
    """Return the search space of a model's widths.

    Args:
        free: what may be cut.
        patterns: shell patterns for the names of the layers that each variable moves; layers that
            no pattern meets keep their width.
        limit: of the multiply-accumulates for one image.

    Raises:
        PruneError: a pattern meets no layer that may be cut, or layers that share their channels
            would belong to two variables.
    """
    names = [name for unit in free.units for name in unit.layers]
    owner: dict[str, str] = {}
    for variable, wanted in patterns.items():
        for name in matching(wanted, names, f"search variable {variable!r}"):
            if name in owner:
                raise PruneError(
                    f"{name!r} belongs to two search variables, {owner[name]!r} and {variable!r}"
                )
            owner[name] = variable
    variables: dict[str, tuple[Unit, ...]] = dict.fromkeys(patterns, ())
    for unit in free.units:
        first = unit.layers[0]
        moved_by = owner.get(first)
        for name in unit.layers[1:]:
            if owner.get(name) != moved_by:
                raise PruneError(
                    f"{first!r} and {name!r} share their channels, so they have to belong to the "
                    "same search variable"
                )
        if moved_by is not None:
            variables[moved_by] += (unit,)
    return SearchSpace(free, variables, limit)
