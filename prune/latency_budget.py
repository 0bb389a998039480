"""Widths under a limit of measured latency."""

from collections.abc import Callable

from prune.layers import Widths
from reid_edge.core.errors import PruneError

PROBES = 6
SMALLEST_SHARE = 0.02


def widths_for_latency(
    limit: float,
    *,
    at: Callable[[float], dict[str, int]],
    latency: Callable[[Widths], float],
) -> tuple[dict[str, int], float]:
    """Find the widths of most operations whose measured latency is within a limit.

    Latency falls with the operations, though not in proportion: their share is halved in, each
    probe is built and timed.

    Args:
        limit: largest latency, as a share of the full-width model's.
        at: the widths for a share of the full-width model's operations.
        latency: measured at some widths, as a share of the full-width model's.

    Returns:
        The widths, and what was measured for them.

    Raises:
        PruneError: no probe is fast enough.
    """
    low, high = SMALLEST_SHARE, 1.0
    best: tuple[dict[str, int], float] | None = None
    seen: list[float] = []
    refusal: PruneError | None = None
    for _ in range(PROBES):
        middle = (low + high) / 2
        try:
            widths = at(middle)
        except PruneError as error:
            low, refusal = middle, error
            continue
        measured = latency(widths)
        seen.append(measured)
        if measured <= limit:
            low, best = middle, (widths, measured)
        else:
            high = middle
    if best is None:
        reason = f"the fastest probe took {min(seen):.2f}; raise the budget" if seen else refusal
        raise PruneError(
            f"no widths within {limit:.2f} of the full-width model's latency were found: {reason}"
        )
    return best
