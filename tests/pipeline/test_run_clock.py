"""How long a run takes: what has passed, and what is left."""

import logging

import pytest

from pipeline.run_clock import RunClock, duration


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_stages_that_took_longer_lengthen_those_that_are_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hands = Hands()
    clock = RunClock(hands)
    assert clock.headline() == "getting ready, 0 s so far"
    with caplog.at_level(logging.INFO, "pipeline"):
        clock.plan({"train": 100, "prune": 50, "finetune": 200})
        clock.at("train")
        assert clock.left() == 350
        hands.seconds = 60
        clock.at("train")
        assert clock.left() == 290
        hands.seconds = 400
        assert clock.left() == 250  # it cannot take less than nothing
        clock.at("prune")
    assert clock.left() == 4 * (50 + 200)
    hands.seconds = 500
    assert clock.left() == 4 * 200 + 100
    assert clock.headline() == "stage 2 of 3: prune, 8 min so far, about 15 min left"
    hands.seconds = 9000
    clock.at("finetune")
    hands.seconds = 99999
    assert clock.headline().endswith("finetune, 27 h 47 min so far, longer than estimated")
    assert caplog.messages[:2] == [
        "stage 1 of 3: train, about 6 min left", "stage 2 of 3: prune, about 17 min left",
    ]  # fmt: skip


def test_without_an_estimate_nothing_is_said_about_it() -> None:
    hands = Hands()
    clock = RunClock(hands)
    clock.at("train")
    hands.seconds = 7
    assert clock.left() is None
    assert clock.headline() == "stage train, 7 s so far"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5340, "89 min"), (12000, "3 h 20 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
