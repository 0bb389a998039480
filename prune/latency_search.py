"""Widths within a measured latency, although single measurements mislead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from prune.layer_widths import Widths
from reid_edge.core.errors import PruneError

HALVINGS = 6
SMALLEST_SHARE = 0.02
# A search that corrects itself takes more probes, up to this number.
MOST_PROBES = 4 * HALVINGS
MOST_TIMES = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeTime:
    """One measurement of a network, in turns with the full-width model.

    Attributes:
        ratio: median time, divided by the full-width model's in the same rounds.
        lower: lower quartile of the time, divided by the full-width model's median.
        upper: upper quartile of the time, divided by the full-width model's median.
        full_ms: median time of the full-width model in these rounds, in milliseconds.
    """

    ratio: float
    lower: float
    upper: float
    full_ms: float


@dataclass(frozen=True)
class FoundWidths:
    """The widths that a search found, and what was measured for them.

    Attributes:
        widths: output width by layer.
        latency: median, in the unit of the limit.
        lower: lower quartile.
        upper: upper quartile.
        full: latency of the full-width model, in the same unit.
    """

    widths: dict[str, int]
    latency: float
    lower: float
    upper: float
    full: float


Timer = Callable[[Widths], ProbeTime]


@dataclass(frozen=True)
class _Probe:
    share: float
    widths: dict[str, int]
    times: list[ProbeTime] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(time.ratio for time in self.times)

    @property
    def lower(self) -> float:
        return median(time.lower for time in self.times)

    @property
    def upper(self) -> float:
        return median(time.upper for time in self.times)


def widths_for_latency(
    limit: float,
    *,
    at: Callable[[float], dict[str, int]],
    timer: Timer,
    full_ms: float | None = None,
    unit: str = "of the full-width model's latency",
) -> FoundWidths:
    """Find the widths with the most operations whose measured latency is within a limit.

    Latency falls with the operations, but not in proportion. The share of operations is found by
    bisection; each probe is built and timed. The load of the machine must not mislead the search:

    - The full-width model is timed in the same rounds as a probe. The milliseconds of a probe are
      their ratio times the smallest median of the full-width model in all measurements, which is
      its time on the calm machine.
    - Two probes contradict each other if the wider one is faster by more than the spread of both.
      Then both are measured again.
    - At the end, the widest network within the limit and the narrowest one above it are measured
      again. If the median of the measurements changes sides, the search goes on from there.

    Args:
        limit: largest latency, in the unit.
        at: the widths for a share of the full-width model's operations.
        timer: measures a network.
        full_ms: median milliseconds of the full-width model, if the limit is in milliseconds;
            None: the limit is a share of the full-width model's latency.
        unit: of the limit and of what is measured, in words.

    Raises:
        PruneError: no probe is fast enough.
    """
    search = _Search(limit, at, timer, full_ms, unit)
    smallest_step = (1 - SMALLEST_SHARE) / 2**HALVINGS
    for _ in range(MOST_PROBES):
        low, high = search.bracket()
        while high - low < 1.001 * smallest_step and search.check_ends(low, high):
            low, high = search.bracket()
        if high - low < 1.001 * smallest_step:
            break
        search.probe((low + high) / 2)
    return search.result()


class _Search:
    def __init__(
        self,
        limit: float,
        at: Callable[[float], dict[str, int]],
        timer: Timer,
        full_ms: float | None,
        unit: str,
    ) -> None:
        self.limit, self.at, self.timer, self.full_ms, self.unit = limit, at, timer, full_ms, unit
        self.probes: list[_Probe] = []
        self.floor = SMALLEST_SHARE
        self.refusal: PruneError | None = None

    @property
    def scale(self) -> float:
        """The full-width model's latency on the calm machine, in the unit."""
        if self.full_ms is None:
            return 1.0
        return min([self.full_ms, *(time.full_ms for one in self.probes for time in one.times)])

    def fits(self, ratio: float) -> bool:
        return ratio * self.scale <= self.limit

    def bracket(self) -> tuple[float, float]:
        """Return the largest share that fits, and the smallest above it, as far as is known."""
        low = max([self.floor, *(one.share for one in self.probes if self.fits(one.ratio))])
        return low, min([1.0, *(one.share for one in self.probes if one.share > low)])

    def probe(self, share: float) -> None:
        """Build and measure a network, and look for contradictions."""
        try:
            widths = self.at(share)
        except PruneError as error:
            self.floor, self.refusal = share, error
            return
        for known in self.probes:
            if known.widths == widths:
                self.probes.append(_Probe(share, widths, known.times))
                return
        new, former = _Probe(share, widths), tuple(self.probes)
        self.probes.append(new)
        self.measure(new)
        for known in former:
            narrower, wider = sorted((new, known), key=lambda one: one.share)
            while wider.upper < narrower.lower:
                what = (
                    f"the wider of two networks was measured faster: {self.tell(wider)}, "
                    f"{self.tell(narrower)}"
                )
                if len(narrower.times) == len(wider.times) == MOST_TIMES:
                    logger.warning(
                        "%s, also when measured again; the machine is busy, or this runtime is "
                        "slow with the narrower widths",
                        what,
                    )
                    break
                logger.info("%s; both are measured again", what)
                for one in (wider, narrower):
                    if len(one.times) < MOST_TIMES:
                        self.measure(one)

    def measure(self, probe: _Probe) -> None:
        probe.times.append(self.timer(probe.widths))
        times = len(probe.times)
        logger.info("%s%s", self.tell(probe), f", measured {times} times" if times > 1 else "")

    def check_ends(self, low: float, high: float) -> bool:
        """Measure the networks at both ends of the bracket again; return whether any was.

        Each is measured twice, and a third time if these lie on different sides of the limit.
        """
        again = False
        for probe in self.probes:
            if probe.share in (low, high) and len(probe.times) < MOST_TIMES:
                sides = {self.fits(time.ratio) for time in probe.times}
                if len(probe.times) < 2 or len(sides) > 1:
                    self.measure(probe)
                    again = True
        return again

    def tell(self, probe: _Probe) -> str:
        ratios = (probe.ratio, probe.lower, probe.upper)
        middle, lower, upper = (ratio * self.scale for ratio in ratios)
        return (
            f"{probe.share:.1%} of the operations take {middle:.2f} ({lower:.2f} to {upper:.2f}) "
            f"{self.unit}"
        )

    def result(self) -> FoundWidths:
        fitting = [probe for probe in self.probes if self.fits(probe.ratio)]
        if not fitting:
            if self.probes:
                fastest = min(probe.ratio for probe in self.probes) * self.scale
                reason = f"the fastest probe took {fastest:.2f}; raise the budget"
            else:
                reason = str(self.refusal)
            raise PruneError(f"no widths within {self.limit:.2f} {self.unit} were found: {reason}")
        best, scale = max(fitting, key=lambda probe: probe.share), self.scale
        upper = best.upper * scale
        if upper > self.limit:
            logger.warning(
                "a quarter of the calls took longer than the limit of %.2f: %s",
                self.limit, self.tell(best),
            )  # fmt: skip
        return FoundWidths(best.widths, best.ratio * scale, best.lower * scale, upper, scale)
