"""Plans: how many channels each layer has after each iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from reid_edge.core.errors import PruneError

if TYPE_CHECKING:
    from prune.layer_widths import Widths  # torch takes seconds, and the settings need this module


def check_target(source: Widths, target: Widths) -> None:
    """Check that a target can be reached by removing channels.

    Args:
        source: widths now, by layer.
        target: widths wanted, for the same layers.

    Raises:
        PruneError: a layer is missing, would grow, or would be left without a channel.
    """
    missing = sorted(set(source) ^ set(target))
    if missing:
        raise PruneError(
            f"source and target do not have the same layers: {missing[0]!r} is in one of them only"
            + (f" (and {len(missing) - 1} more)" if len(missing) > 1 else "")
        )
    for name, width in target.items():
        if width > source[name]:
            raise PruneError(
                f"target is wider than the source at {name!r}: {width} > {source[name]} channels; "
                "pruning only removes, choose a smaller target"
            )
        if width < 1:
            raise PruneError(f"target leaves no channel at {name!r}; at least 1 is needed")


def linear_plan(source: Widths, target: Widths, iterations: int) -> list[dict[str, int]]:
    """Plan widths that fall by the same number of channels at every iteration.

    Args:
        source: widths now, by layer.
        target: widths after the last iteration, for the same layers.
        iterations: K, how many cuts to take.

    Returns:
        K widths; the last one is ``target`` exactly. Layers of equal source and target width stay
        equal at every iteration, so that layers that must go together do.

    Raises:
        PruneError: K is below 1, or the target cannot be reached by removing channels.
    """

    def between(source: int, target: int, step: int) -> int:
        # Integer arithmetic that rounds removed halves up; round() would round halves to even.
        return source - (2 * (source - target) * step + iterations) // (2 * iterations)

    return _plan(source, target, iterations, between)


def geometric_plan(source: Widths, target: Widths, iterations: int) -> list[dict[str, int]]:
    """Plan widths that fall by the same share of the remaining channels at every iteration.

    The first cuts remove more channels than the last ones.
    Arguments, result and errors are those of :func:`linear_plan`.
    """

    def between(source: int, target: int, step: int) -> int:
        return int(source * (target / source) ** (step / iterations) + 0.5)

    return _plan(source, target, iterations, between)


def _plan(
    source: Widths, target: Widths, iterations: int, between: Callable[[int, int, int], int]
) -> list[dict[str, int]]:
    if iterations < 1:
        raise PruneError(f"iterations must be at least 1, not {iterations}")
    check_target(source, target)
    steps = range(1, iterations)
    plan = [{n: between(source[n], target[n], step) for n in source} for step in steps]
    return [*plan, {name: target[name] for name in source}]


Schedule = Literal["linear", "geometric"]
SCHEDULES: Mapping[Schedule, Callable[[Widths, Widths, int], list[dict[str, int]]]] = {
    "linear": linear_plan,
    "geometric": geometric_plan,
}


def check_groups(widths: Widths, groups: Sequence[Sequence[str]]) -> None:
    """Check that layers whose channels go together are planned to the same width.

    Raises:
        PruneError: two members of a group have different widths in the plan.
    """
    for members in groups:
        for name in members[1:]:
            if widths[name] != widths[members[0]]:
                raise PruneError(
                    f"{members[0]!r} and {name!r} share their channels, so they cannot have "
                    f"{widths[members[0]]} and {widths[name]} of them"
                )


def is_of_one_width(members: Sequence[str], now: Widths) -> bool:
    """Tell whether the layers of a group share all their channels."""
    return all(now[name] == now[members[0]] for name in members)


def check_one_width(groups: Sequence[Sequence[str]], now: Widths, planned: Widths) -> None:
    """Check that layers are to be cut only where those of their group share all their channels.

    Args:
        groups: layers whose channels go together.
        now: output channels by layer.
        planned: output channels of those that are to be cut, and of any others.

    Raises:
        PruneError: layers that share a part of their channels are to be cut.
    """
    for members in groups:
        cut = any(planned.get(name, now[name]) < now[name] for name in members)
        if cut and not is_of_one_width(members, now):
            other = next(name for name in members if now[name] != now[members[0]])
            raise PruneError(
                f"{members[0]!r} and {other!r} share a part of their channels, by a slice or a "
                "concatenation: such layers cannot be cut, leave them all untouched"
            )
