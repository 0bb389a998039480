"""The study of a sweep in Optuna: one journal file that all workers append to.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019. This is
the only module that imports Optuna.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.sweep.sweep_settings import Range, SweepSettings, Value
from reid_edge.core.errors import PipelineError
from reid_edge.core.packages import import_package
from reid_edge.core.seeding import derive_seed

JOURNAL, LOCK = "journal.log", "study.lock"
NAME = "sweep"
LOWER_IS_BETTER = ("EER",)
# How Optuna calls the state of a trial that nobody has taken.
WAITING = "WAITING"


@dataclass(frozen=True)
class Trial:
    """A trial as the journal has it.

    Attributes:
        number: from 0.
        state: "running", "complete" or "fail".
        values: of the parameters, by full name.
        measured: what is compared; None if it is not complete.
        reason: why it failed.
    """

    number: int
    state: str
    values: dict[str, Value]
    measured: float | None = None
    reason: str = ""


class SweepStudy:
    """A study in a folder that all workers can write.

    Args:
        folder: of the study.
        sweep: its settings.

    Raises:
        PipelineError: Optuna is not installed.
    """

    def __init__(self, folder: Path, sweep: SweepSettings) -> None:
        self._optuna: Any = import_package(
            "optuna", extra="sweep", needed_by="reid-edge sweep", error=PipelineError
        )
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._folder, self._sweep = folder, sweep
        journal = import_package(
            "optuna.storages.journal", extra="sweep", needed_by=folder, error=PipelineError
        )
        path = folder / JOURNAL
        # The other kind of lock, a symbolic link, stays behind when its process is killed.
        backend = journal.JournalFileBackend(
            str(path), lock_obj=_BackendLock(folder / "journal.lock")
        )
        with self.locked():
            _cut_unfinished_line(path)
            self._study = self._optuna.create_study(
                storage=self._optuna.storages.JournalStorage(backend),
                study_name=NAME,
                direction="minimize" if sweep.measure in LOWER_IS_BETTER else "maximize",
                load_if_exists=True,
            )

    @contextmanager
    def take(self) -> Iterator[Trial | None]:
        """Give a trial to run: one whose worker died, or else the next one; None if there is none.

        The trial is this worker's until the block ends. The system lifts the lock of a worker that
        is killed.
        """
        with ExitStack() as held:
            taken: Trial | None = None
            with self.locked():
                for trial in self.trials():
                    if trial.state == "running" and self._hold(trial.number, held):
                        taken = self._suggest(self._trial(trial.number))
                        break
                else:
                    if len(self.trials()) < self._sweep.count:
                        asked = self._ask(len(self.trials()))
                        if not self._hold(asked.number, held):
                            raise PipelineError(
                                f"{self._folder}: trial {asked.number} is new and locked; is this "
                                "folder that of another sweep?"
                            )
                        taken = self._suggest(asked)
            yield taken

    def trials(self) -> list[Trial]:
        """Return the trials that were taken so far."""
        return [
            Trial(
                trial.number,
                trial.state.name.lower(),
                dict(trial.params),
                trial.value if trial.state.name == "COMPLETE" else None,
                trial.user_attrs.get("reason", ""),
            )
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state.name != WAITING
        ]

    def finish(self, trial: Trial, measured: float) -> None:
        """Note what a trial measured."""
        with self.locked():
            self._study.tell(trial.number, measured)

    def fail(self, trial: Trial, reason: str) -> None:
        """Note that a trial failed."""
        with self.locked():
            self._trial(trial.number).set_user_attr("reason", reason)
            self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other workers out while trials are counted and taken."""
        with FileLock(self._folder / LOCK):
            yield

    def _hold(self, number: int, held: ExitStack) -> bool:
        """Lock a trial until ``held`` is closed; return whether no other worker has it."""
        lock = FileLock(self._folder / f"trial-{number:04d}.lock")
        try:
            held.enter_context(lock.acquire(timeout=0))
        except Timeout:
            return False
        return True

    def _ask(self, number: int) -> Any:
        sweep = self._sweep
        # One is waiting where a worker was killed between the two steps.
        waiting = any(one.state.name == WAITING for one in self._study.get_trials(deepcopy=False))
        if sweep.sampler == "grid" and not waiting:
            self._study.enqueue_trial(sweep.grid()[number])
        self._seed_sampler(number)
        return self._study.ask()

    def _seed_sampler(self, number: int) -> None:
        """Take a new sampler for a trial: its draws depend on the finished trials alone."""
        seed = derive_seed(self._sweep.seed, "sweep", number)
        samplers = self._optuna.samplers
        self._study.sampler = (
            samplers.TPESampler(seed=seed, constant_liar=True)
            if self._sweep.sampler == "tpe"
            else samplers.RandomSampler(seed=seed)
        )

    def _trial(self, number: int) -> Any:
        frozen = self._study.get_trials(deepcopy=False)[number]
        return self._optuna.trial.Trial(self._study, frozen._trial_id)

    def _suggest(self, trial: Any) -> Trial:
        """Draw the values of a trial; those that were drawn before a worker died stay."""
        self._seed_sampler(trial.number)
        values: dict[str, Value] = {}
        for name, choices in self._sweep.parameters.items():
            if not isinstance(choices, Range):
                values[name] = trial.suggest_categorical(name, choices)
            elif choices.whole:
                step = int(choices.step or 1)
                values[name] = trial.suggest_int(
                    name, choices.low, choices.high, step=step, log=choices.log
                )
            else:
                values[name] = trial.suggest_float(
                    name, choices.low, choices.high, step=choices.step, log=choices.log
                )
        return Trial(trial.number, "running", values)


def _cut_unfinished_line(journal: Path) -> None:
    """Cut off what a machine that stopped has written of a line: Optuna would refuse the rest."""
    if journal.is_file():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with journal.open("r+b") as file:
                file.truncate(whole)


class _BackendLock:
    """The lock of the journal file, for Optuna."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()
