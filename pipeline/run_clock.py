"""How long a run takes: what is estimated, what has passed, what is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)


class RunClock:
    """The time of a run, stage by stage.

    Once stages have ended, the estimates of those that are left are multiplied by how much longer
    than estimated the others took.

    Args:
        now: returns seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun = now()
        self._estimates: dict[str, float] = {}
        self._stage: str | None = None
        self._stage_begun = 0.0
        self._took: dict[str, float] = {}

    def plan(self, estimates: Mapping[str, float]) -> None:
        """Take the estimated seconds of the stages that will run, in their order."""
        self._estimates = dict(estimates)

    def at(self, stage: str) -> None:
        """Note which stage runs; a line of the log says so when it begins."""
        if stage == self._stage:
            return
        now = self._now()
        if self._stage is not None:
            self._took[self._stage] = now - self._stage_begun
        self._stage, self._stage_begun = stage, now
        logger.info("%s%s", self._where(), self._rest())

    def left(self) -> float | None:
        """Return about how many seconds the run still takes; None: nothing is known."""
        if self._stage not in self._estimates:
            return None
        passed = self._now() - self._stage_begun
        done = [stage for stage in self._took if stage in self._estimates]
        estimated = sum(self._estimates[stage] for stage in done)
        factor = sum(self._took[stage] for stage in done) / estimated if estimated else 1.0
        names = list(self._estimates)
        later = names[names.index(self._stage) + 1 :]
        this = max(factor * self._estimates[self._stage] - passed, 0.0)
        return this + factor * sum(self._estimates[stage] for stage in later)

    def headline(self) -> str:
        """Return the first line of the display."""
        passed = duration(self._now() - self._begun)
        if self._stage is None:
            return f"getting ready, {passed} so far"
        return f"{self._where()}, {passed} so far{self._rest()}"

    def _rest(self) -> str:
        left = self.left()
        if left is None:
            return ""
        return f", about {duration(left)} left" if left >= 1 else ", longer than estimated"

    def _where(self) -> str:
        names = list(self._estimates)
        if self._stage not in names:
            return f"stage {self._stage}"
        return f"stage {names.index(self._stage) + 1} of {len(names)}: {self._stage}"


def duration(seconds: float) -> str:
    """Return a number of seconds as a reader says it: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
