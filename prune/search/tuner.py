"""NNI's TPE tuner with a memory; NNI's dispatcher process makes it by its name.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
"""

from pathlib import Path
from typing import Any

from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.common.hpo_utils import format_parameters

from prune.search.history import (
    Answered,
    Asked,
    Sample,
    append_event,
    drop_torn_line,
    read_events,
)
from reid_edge.core.errors import PruneError

# Candidates that are drawn at random before the model of good and bad ones is used.
STARTUP_TRIALS = 6


class RecordedTpe(TpeTuner):  # type: ignore[misc]
    """TPE that records its candidates and their scores in a file, and resumes from it.

    Replaying the events restores the tuner and its random state, so a stopped search gives the same
    result as an uninterrupted one. Candidates without a score are handed out again.

    Args:
        history: path of the file of events.
        start: the first candidate, which is not drawn.
        seed: of all draws.
    """

    def __init__(self, history: str, start: Sample, seed: int) -> None:
        super().__init__("maximize", seed, {"n_startup_jobs": STARTUP_TRIALS})
        self._file = Path(history)
        self._start = start
        self._samples: list[Sample] = []
        self._unanswered: list[int] = []
        self._trial_of: dict[int, int] = {}

    def update_search_space(self, space: dict[str, Any]) -> None:
        """Take the space, which NNI sends once before anything is asked, and replay."""
        super().update_search_space(space)
        drop_torn_line(self._file)
        for event in read_events(self._file):
            if isinstance(event, Answered):
                super().receive_trial_result(event.trial, None, event.score)
                self._unanswered.remove(event.trial)
            elif self._ask() == event.sample:
                self._unanswered.append(event.trial)
            else:
                raise PruneError(
                    f"{self._file}: trial {event.trial} is not what this search would have asked; "
                    "was it made with other settings or another version of NNI or numpy?"
                )

    def generate_parameters(self, parameter_id: int, **_: Any) -> Sample:
        """Return the next candidate; ``parameter_id`` is NNI's number for it."""
        if self._unanswered:
            trial = self._unanswered.pop(0)
        else:
            trial = len(self._samples)
            append_event(self._file, Asked(trial, self._ask()))
        self._trial_of[parameter_id] = trial
        return self._samples[trial]

    def receive_trial_result(
        self, parameter_id: int, _parameters: Any, value: float, **_: Any
    ) -> None:
        """Take a candidate's score."""
        trial = self._trial_of[parameter_id]
        append_event(self._file, Answered(trial, value))
        super().receive_trial_result(trial, None, value)

    def trial_end(self, parameter_id: int, success: bool, **_: Any) -> None:
        """Ignore the end of a trial: the next run repeats a trial without a score."""

    def _ask(self) -> Sample:
        trial = len(self._samples)
        if trial == 0:
            point = format_parameters(self._start, self.space)
            self.dedup.add_history(point)
            self._params[trial] = self._running_params[trial] = point
            sample = dict(self._start)
        else:
            sample = super().generate_parameters(trial)
        self._samples.append(sample)
        return sample
