"""The search for widths within a measured latency."""

import logging
from random import Random

import pytest

from prune.latency_search import MOST_TIMES, FoundWidths, ProbeTime, Timer, widths_for_latency
from prune.layer_widths import Widths
from reid_edge.core.errors import PruneError

FULL_MS = 10.0


def at(share: float) -> dict[str, int]:
    return {"a": round(1000 * share)}


def true_ms(widths: Widths) -> float:
    """A tenth of the time does not depend on the widths."""
    return FULL_MS * (0.1 + 0.9 * widths["a"] / 1000)


def exact(ratio: float, full_ms: float = FULL_MS) -> ProbeTime:
    return ProbeTime(ratio, 0.99 * ratio, 1.01 * ratio, full_ms)


class Machine:
    """A timer of a machine with other work.

    Args:
        seed: of the load.
        load: times that both networks take longer, one drawn for each measurement.
        disturbed: share of the measurements that met something which slowed one network only.
    """

    def __init__(self, seed: int, load: tuple[float, ...], disturbed: float) -> None:
        self.random, self.load, self.disturbed = Random(seed), load, disturbed
        self.loads: list[float] = []

    @property
    def calls(self) -> int:
        return len(self.loads)

    def __call__(self, widths: Widths) -> ProbeTime:
        self.loads.append(self.random.choice(self.load))
        ratio = true_ms(widths) / FULL_MS * self.random.gauss(1, 0.01)
        if self.random.random() < self.disturbed:
            ratio *= self.random.choice((0.7, 1.5))
        return exact(ratio, FULL_MS * self.loads[-1])


def search(timer: Timer, limit: float, full_ms: float) -> FoundWidths:
    return widths_for_latency(limit, at=at, timer=timer, full_ms=full_ms, unit="ms as onnx")


def test_the_widest_probe_within_the_limit_is_taken() -> None:
    found = widths_for_latency(0.5, at=at, timer=lambda widths: exact(widths["a"] / 1000))
    assert found.latency == found.widths["a"] / 1000
    assert 0.46 < found.latency <= 0.5
    assert found.full == 1


def test_a_limit_below_every_probe_is_refused() -> None:
    with pytest.raises(PruneError, match=r"within 0.50 of .*: the fastest probe took 0.90; raise"):
        widths_for_latency(0.5, at=at, timer=lambda _: exact(0.9))


def test_widths_that_cannot_be_narrowed_say_why() -> None:
    def refuse(_: float) -> dict[str, int]:
        raise PruneError("the narrowest model that is left has 990")

    with pytest.raises(PruneError, match=r"within 0.50 of .*: the narrowest model that is left ha"):
        widths_for_latency(0.5, at=refuse, timer=lambda _: exact(0.1))


def test_load_that_comes_and_goes_does_not_count() -> None:
    for seed in range(40):
        timer = Machine(seed, load=(1.0, 1.3, 2.5), disturbed=0)
        found = search(timer, 5.0, full_ms=2.5 * FULL_MS)
        assert found.full == FULL_MS * min(timer.loads)
        # A step of the search is 1.5 % of the operations; each measurement is off by 1 %.
        assert 4.7 < true_ms(found.widths) * min(timer.loads) < 5.1, seed


def test_measurements_that_mislead_are_made_again() -> None:
    """One of ten measurements is wrong by half: what the search finds is within the limit."""
    right = 0
    for seed in range(100):
        timer = Machine(seed, load=(1.0, 1.3), disturbed=0.1)
        found = search(timer, 5.0, full_ms=FULL_MS)
        right += 4.6 < true_ms(found.widths) < 5.1
    assert right >= 95


def test_a_calm_machine_is_measured_eight_times() -> None:
    timer = Machine(0, load=(1.0,), disturbed=0)
    search(timer, 5.0, full_ms=FULL_MS)
    assert timer.calls == 8  # six probes, and both ends again


def test_widths_that_come_again_are_not_measured_again() -> None:
    timer = Machine(0, load=(1.0,), disturbed=0)
    widths_for_latency(0.6, at=lambda share: {"a": round(4 * share) * 250}, timer=timer)
    assert timer.calls == 4  # 500 and 750 channels, both twice


def test_a_first_probe_that_was_wrong_is_corrected() -> None:
    for wrong in (0.5, 2.0):
        calls: list[int] = []

        def timer(widths: Widths, wrong: float = wrong, calls: list[int] = calls) -> ProbeTime:
            calls.append(widths["a"])
            return exact(true_ms(widths) / FULL_MS * (wrong if len(calls) == 1 else 1))

        found = search(timer, 5.0 if wrong < 1 else 6.0, full_ms=FULL_MS)
        assert calls.count(510) == MOST_TIMES
        limit = 444 if wrong < 1 else 555
        assert limit - 20 < found.widths["a"] <= limit


def test_a_wider_network_that_is_faster_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Widths below 400 are slow in this runtime, so that no measurement corrects it."""

    def timer(widths: Widths) -> ProbeTime:
        return exact(0.9 if widths["a"] < 400 else 0.6 + widths["a"] / 10000)

    with caplog.at_level(logging.INFO), pytest.raises(PruneError, match="the fastest probe took"):
        widths_for_latency(0.5, at=at, timer=timer)
    lines = [record.message for record in caplog.records if "faster" in record.message]
    narrow = "26.5% of the operations take 0.90 (0.89 to 0.91) of the full-width model's latency"
    wide = "51.0% of the operations take 0.65 (0.64 to 0.66) of the full-width model's latency"
    what = f"the wider of two networks was measured faster: {wide}, {narrow}"
    assert lines[0] == f"{what}; both are measured again"
    warnings = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert warnings[0] == (
        f"{what}, also when measured again; the machine is busy, or this runtime is slow with the "
        "narrower widths"
    )


def test_a_spread_beyond_the_limit_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def timer(widths: Widths) -> ProbeTime:
        ratio = widths["a"] / 1000
        return ProbeTime(ratio, ratio, 1.2 * ratio, FULL_MS)

    found = search(timer, 5.0, full_ms=FULL_MS)
    assert found.latency <= 5 < found.upper
    warnings = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert warnings == [
        "a quarter of the calls took longer than the limit of 5.00: 49.5% of the operations take "
        "4.95 (4.95 to 5.94) ms as onnx"
    ]
