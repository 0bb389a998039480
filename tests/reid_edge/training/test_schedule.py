"""Warm-up, then half a cosine or steps down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_edge.training.schedule import warmup_cosine, warmup_step


@given(warmup=st.integers(0, 50), total=st.integers(1, 200))
def test_it_rises_then_falls_and_stays_within_the_peak(warmup: int, total: int) -> None:
    factor = warmup_cosine(warmup_steps=warmup, total_steps=total)
    values = [factor(step) for step in range(total)]
    peak = values.index(max(values))
    assert all(0 < value <= 1 for value in values)
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert factor(total) == pytest.approx(0, abs=1e-9)


def test_half_way() -> None:
    factor = warmup_cosine(warmup_steps=0, total_steps=100)
    assert factor(0) == 1
    assert factor(50) == pytest.approx(0.5)


@given(
    warmup=st.integers(0, 20),
    milestones=st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True),
    gamma=st.floats(0.05, 0.9),
)
def test_steps_equal_a_loop(warmup: int, milestones: list[int], gamma: float) -> None:
    factor = warmup_step(warmup_steps=warmup, milestones=sorted(milestones), gamma=gamma)
    expected = 1.0
    for step in range(110):
        if step in milestones:
            expected *= gamma
        if step < warmup:
            assert factor(step) == pytest.approx((step + 1) / (warmup + 1))
        else:
            assert factor(step) == pytest.approx(expected)
