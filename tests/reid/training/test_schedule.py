"""Warm-up, then half a cosine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.training.schedule import warmup_cosine


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
