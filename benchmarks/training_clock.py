"""When the steps of a training end, also of one that is trained in several processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from reid_edge.core.io import write_json

CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    # Of this process alone, for a machine that others use; with --workers 0 loading counts too.
    "processor": time.process_time,
}


class StepClock(Callback):
    """End a training after some steps, and write when each ended.

    Args:
        path: JSON file that the first process writes.
        clock: a name in ``CLOCKS``.
        steps: to be timed; one more is trained.
    """

    def __init__(self, path: Path, clock: str, steps: int) -> None:
        self._path, self._clock, self._steps = path, clock, steps
        self._ends: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Note the time; the processes count alike, so that all end after the same step."""
        self._ends.append(CLOCKS[self._clock]())
        if len(self._ends) <= self._steps:
            return
        if trainer.is_global_zero:
            write_json(self._path, self._ends)
        trainer.should_stop = True
