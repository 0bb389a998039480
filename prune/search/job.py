"""The job of the process that manages a search."""

from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from prune.search.history import Sample
from prune.search.machines import Machine

HISTORY = "trials.jsonl"


@dataclass(frozen=True)
class Job:
    """A search by NNI.

    Attributes:
        folder: what the search leaves goes there.
        code: folder in which a trial is started; other machines get a copy of it.
        module: Python module that is a trial: it asks NNI for a sample and reports a score.
        variables: names of the proportions that are searched.
        low: least proportion.
        high: greatest proportion.
        step: between neighbouring proportions.
        start: the first sample to score.
        seed: of all draws.
        trials: samples to score, those of earlier runs included.
        concurrency: samples that are scored at the same time.
        machines: where; none: here.
        callback: address on which the machines reach us through their tunnel.
    """

    folder: Path
    code: Path
    module: str
    variables: tuple[str, ...]
    low: float
    high: float
    step: float
    start: Sample
    seed: int
    trials: int
    concurrency: int = 1
    machines: tuple[Machine, ...] = ()
    callback: str = "127.0.0.1"

    @property
    def history(self) -> Path:
        """Return the file of what was asked and answered."""
        return self.folder / HISTORY

    def to_json(self) -> str:
        """Return the job as text, for another process."""
        return TypeAdapter(Job).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Rebuild a job from :meth:`to_json`."""
        return TypeAdapter(Job).validate_json(text)
