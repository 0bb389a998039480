"""Measure latencies in turns: every round calls each candidate once.

The load of a machine changes within seconds. Candidates that are timed in turns meet the same
load; candidates that are timed one after the other do not. ``measure_latency`` times calls in this
process, ``measure_side_by_side`` gives each model its own process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from quantize.measurements import Measurement, Timing
from quantize.worker import Elapsed, Open, Worker
from reid_edge.core.errors import QuantizeError
from reid_edge.core.int8_engine import Engine, quantized_engine

# Calls of each model in a process of its own before those that are timed.
WARMUP = 2


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        call: does the work once.
        engine: int8 engine that is set during the call; none: the current engine stays.
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
        threads: threads of PyTorch during the calls; the former number is restored.

    Raises:
        QuantizeError: no candidates, too few rounds, no threads, or an engine that is not
            supported here.
    """
    if not candidates:
        raise QuantizeError("no candidates to time")
    if rounds < 2 or warmup < 0 or threads < 1:
        raise QuantizeError("timing needs at least 2 rounds, no negative warm-up, and 1 thread")
    times: dict[str, list[float]] = {name: [] for name in candidates}
    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for round_number in range(warmup + rounds):
            for name, candidate in candidates.items():
                # Switching the engine is not part of the time.
                with quantized_engine(candidate.engine), torch.inference_mode():
                    start = time.perf_counter_ns()
                    candidate.call()
                    elapsed = (time.perf_counter_ns() - start) / 1e6
                if round_number >= warmup:
                    times[name].append(elapsed)
    finally:
        torch.set_num_threads(former)
    reference = median(next(iter(times.values())))
    latencies = {}
    for name, values in times.items():
        lower, middle, upper = quantiles(values, n=4, method="inclusive")
        latencies[name] = Latency(middle, lower, upper, middle / reference)
    return latencies


@dataclass(frozen=True)
class Model:
    """What to measure.

    Attributes:
        open_model: loads it, see ``Worker``.
        image_shape: (3, H, W) of what it takes.
        packages: that its runtime is in, as they are imported; None: not known.
    """

    open_model: Open
    image_shape: tuple[int, int, int]
    packages: tuple[str, ...] | None = None


def measure_side_by_side(
    models: Mapping[str, Model],
    *,
    batches: Sequence[int] = (1, 8),
    threads: Sequence[int] = (1,),
    rounds: int = 30,
    calls: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Measurement]:
    """Measure models in turns, so that all of them meet the same load.

    Args:
        models: by name; the first is the one that the others are compared with.
        batches: numbers of images in a call.
        threads: numbers of threads.
        rounds: turns of each model, for each batch and number of threads; at least 2.
        calls: timed calls of a model in its turn, whose median is the time of the turn. Each
            follows one that is not timed. With few calls, a model still meets caches, and a clock
            of the processor, that the others have left.
        progress: called with a line before each part of the work.

    Raises:
        QuantizeError: no models, numbers below their bounds, or a model that cannot be opened or
            run; the message names it.
    """
    if not models:
        raise QuantizeError("no models to measure")
    numbers = (*batches, *threads, calls)
    if rounds < 2 or not batches or not threads or min(numbers) < 1:
        raise QuantizeError(
            "measuring needs 2 rounds or more, and batches, threads and calls from 1 up"
        )
    say = progress or (lambda _: None)
    # Every process has the same libraries, so that memory can be compared.
    known = [model.packages for model in models.values()]
    packages = None if None in known else {name for one in known if one for name in one}
    timings: dict[str, list[Timing]] = {name: [] for name in models}
    with ExitStack() as stack:
        say(f"opening {len(models)} models, each in a process of its own")
        workers = {
            name: stack.enter_context(Worker(name, model.open_model, model.image_shape, packages))
            for name, model in models.items()
        }
        peaks = {}
        for name, worker in workers.items():
            worker.open(threads=1)
            worker.run(batch=1)
            peaks[name] = worker.peak_bytes()
        for count in threads:
            for worker in workers.values():
                worker.open(count)
            for batch in batches:
                say(f"batch {batch}, {count} thread(s): {rounds} rounds over {len(models)} models")
                for name, timing in _time_workers(workers, batch, count, rounds, calls).items():
                    timings[name].append(timing)
    return {name: Measurement(peaks[name], tuple(timings[name])) for name in models}


def _time_workers(
    workers: Mapping[str, Worker], batch: int, threads: int, rounds: int, calls: int
) -> dict[str, Timing]:
    elapsed: dict[str, list[Elapsed]] = {name: [] for name in workers}
    for number in range(WARMUP + rounds):
        for name, worker in workers.items():
            turn = sorted((worker.run(batch) for _ in range(calls)), key=lambda one: one.wall_ms)
            if number >= WARMUP:
                elapsed[name].append(turn[len(turn) // 2])
    reference = [one.wall_ms for one in next(iter(elapsed.values()))]
    timings = {}
    for name, found in elapsed.items():
        times = [one.wall_ms for one in found]
        lower, middle, upper = quantiles(times, n=4, method="inclusive")
        timings[name] = Timing(
            batch=batch,
            threads=threads,
            median_ms=middle,
            lower_quartile_ms=lower,
            upper_quartile_ms=upper,
            cpu_ms=median(one.cpu_ms for one in found),
            speedup=median(first / own for first, own in zip(reference, times, strict=True)),
            images_per_second=1000 * batch / middle,
        )
    return timings
