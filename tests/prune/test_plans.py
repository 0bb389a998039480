"""Plans end at the target and never split layers that go together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune.plans import (
    SCHEDULES,
    Schedule,
    check_groups,
    check_target,
    geometric_plan,
    linear_plan,
)
from reid_edge.core.errors import PruneError


@given(source=st.integers(1, 600), share=st.floats(0.01, 1.0), iterations=st.integers(1, 12))
def test_a_plan_falls_evenly_and_ends_at_the_target(
    source: int, share: float, iterations: int
) -> None:
    target = max(1, int(source * share))
    plan = linear_plan({"a": source, "b": source}, {"a": target, "b": target}, iterations)
    widths = [source, *(step["a"] for step in plan)]
    cuts = [before - after for before, after in pairwise(widths)]
    assert len(plan) == iterations
    assert widths[-1] == target
    assert max(cuts) - min(cuts) <= 1
    assert all(step["a"] == step["b"] for step in plan)


@given(source=st.integers(1, 600), share=st.floats(0.01, 1.0), iterations=st.integers(1, 12))
def test_geometric_cuts_take_the_same_share_each_time(
    source: int, share: float, iterations: int
) -> None:
    target = max(1, int(source * share))
    plan = geometric_plan({"a": source, "b": source}, {"a": target, "b": target}, iterations)
    widths = [source, *(step["a"] for step in plan)]
    assert len(plan) == iterations
    assert widths[-1] == target
    for number, width in enumerate(widths):
        assert abs(width - source * (target / source) ** (number / iterations)) <= 0.5 + 1e-9
    assert all(step["a"] == step["b"] for step in plan)


def test_a_wider_target_is_refused() -> None:
    with pytest.raises(PruneError, match=r"wider than the source at 'a': 9 > 8 channels"):
        check_target({"a": 8}, {"a": 9})


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(PruneError, match="leaves no channel at 'a'"):
        check_target({"a": 8}, {"a": 0})


def test_another_architecture_is_refused() -> None:
    with pytest.raises(PruneError, match="do not have the same layers: 'b'"):
        check_target({"a": 8}, {"a": 8, "b": 4})


@pytest.mark.parametrize("way", SCHEDULES)
def test_no_iterations_are_refused(way: Schedule) -> None:
    with pytest.raises(PruneError, match="at least 1, not 0"):
        SCHEDULES[way]({"a": 8}, {"a": 4}, 0)


def test_a_split_group_is_refused() -> None:
    with pytest.raises(PruneError, match="'a' and 'b' share their channels"):
        check_groups({"a": 8, "b": 4}, [("a", "b")])
