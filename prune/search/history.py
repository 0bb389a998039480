"""The candidates and scores of a search, in order, as lines of a file.

A stopped search resumes from this file alone: the tuner is a function of its seed and of these
events.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from reid_edge.core.errors import PruneError

Sample = dict[str, float]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Asked:
    """A candidate was handed out."""

    trial: int
    sample: Sample
    schema_version: Literal[1] = 1


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Answered:
    """A candidate's score came back."""

    trial: int
    score: float
    schema_version: Literal[1] = 1


Event = Asked | Answered
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


@dataclass(frozen=True)
class Trial:
    """A candidate that was scored.

    Attributes:
        number: from 0, in the order in which candidates were handed out.
        sample: the proportions of the search space's variables.
        score: the higher the better.
    """

    number: int
    sample: Sample
    score: float


def append_event(path: Path, event: Event) -> None:
    """Add an event to the file and flush it to the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(event), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_events(path: Path) -> list[Event]:
    """Read the events; a last line that was cut off counts as not written.

    Raises:
        PruneError: another line cannot be read; the message names it.
    """
    lines = _whole_lines(path)
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(_EVENT.validate_python(json.loads(line)))
        except ValueError as error:  # of JSON or of the schema
            raise PruneError(
                f"{path}: line {number} is no event of a search; restore the file, or remove its "
                "folder to begin again"
            ) from error
    return events


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that was not written whole, so that more can be appended."""
    if path.exists():
        whole = "".join(line + "\n" for line in _whole_lines(path)).encode()
        if len(whole) < path.stat().st_size:
            os.truncate(path, len(whole))


def finished_trials(events: Sequence[Event]) -> list[Trial]:
    """Return the candidates that were scored, in the order of their numbers."""
    samples = {event.trial: event.sample for event in events if isinstance(event, Asked)}
    return sorted(
        (
            Trial(event.trial, samples[event.trial], event.score)
            for event in events
            if isinstance(event, Answered)
        ),
        key=lambda trial: trial.number,
    )


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial of the highest score, the earliest of equals."""
    return max(trials, key=lambda trial: (trial.score, -trial.number))


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")
    return [line.decode("utf-8", errors="replace") for line in lines]
