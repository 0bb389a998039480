"""Latency side by side: every round calls each candidate once.

The load of a machine changes within seconds. Candidates timed one after the other would each meet
a different machine; timed in turns, they meet the same.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from quantize.engine import Engine, quantized_engine
from reid_edge.core.errors import QuantizeError


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        call: does the work once.
        engine: int8 engine that is current meanwhile; none leaves it as it is.
    """

    call: Callable[[], object]
    engine: Engine | None = None


@dataclass(frozen=True)
class Latency:
    """The time of one call.

    Attributes:
        median_ms: median over the rounds, in milliseconds.
        lower_quartile_ms: a quarter of the rounds were at least as fast.
        upper_quartile_ms: a quarter of the rounds were at least as slow.
        ratio: median divided by that of the first candidate.
    """

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    ratio: float


def measure_latency(
    candidates: Mapping[str, Candidate],
    *,
    rounds: int = 50,
    warmup: int = 5,
    threads: int = 1,
) -> dict[str, Latency]:
    """Time candidates in turns.

    Args:
        candidates: by name; the first is the one that the others are compared with.
        rounds: timed calls of each, at least 2.
        warmup: calls of each before, not timed.
        threads: threads of PyTorch meanwhile; the former number is put back.

    Raises:
        QuantizeError: no candidates, too few rounds, no threads, or an engine that is not
            supported here.
    """
    if not candidates:
        raise QuantizeError("no candidates to time")
    if rounds < 2 or warmup < 0 or threads < 1:
        raise QuantizeError("timing needs at least 2 rounds, no negative warm-up, and 1 thread")
    times: dict[str, list[float]] = {name: [] for name in candidates}
    with _threads(threads), torch.inference_mode():
        for round_number in range(warmup + rounds):
            for name, candidate in candidates.items():
                elapsed = _time(candidate)
                if round_number >= warmup:
                    times[name].append(elapsed)
    reference = median(next(iter(times.values())))
    return {name: _summary(values, reference) for name, values in times.items()}


def _time(candidate: Candidate) -> float:
    """Return the milliseconds of one call; switching the engine is not part of them."""
    engine = nullcontext() if candidate.engine is None else quantized_engine(candidate.engine)
    with engine:
        start = time.perf_counter_ns()
        candidate.call()
        return (time.perf_counter_ns() - start) / 1e6


def _summary(times: list[float], reference: float) -> Latency:
    lower, middle, upper = quantiles(times, n=4, method="inclusive")
    return Latency(middle, lower, upper, middle / reference)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)
