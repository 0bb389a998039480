"""The search for widths within a measured latency."""

import pytest

from prune.budgets import widths_for_latency
from reid_edge.core.errors import PruneError


def at(share: float) -> dict[str, int]:
    return {"a": round(1000 * share)}


def test_the_widest_probe_within_the_limit_is_taken() -> None:
    widths, measured = widths_for_latency(0.5, at=at, latency=lambda widths: widths["a"] / 1000)
    assert measured == widths["a"] / 1000
    assert 0.46 < measured <= 0.5


def test_a_limit_below_every_probe_is_refused() -> None:
    with pytest.raises(PruneError, match=r"within 0.50 of .*: the fastest probe took 0.90; raise"):
        widths_for_latency(0.5, at=at, latency=lambda _: 0.9)


def test_widths_that_cannot_be_narrowed_say_why() -> None:
    def refuse(_: float) -> dict[str, int]:
        raise PruneError("the narrowest model that is left has 990")

    with pytest.raises(PruneError, match=r"within 0.50 of .*: the narrowest model that is left ha"):
        widths_for_latency(0.5, at=refuse, latency=lambda _: 0.1)
