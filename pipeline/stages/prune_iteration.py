"""One prune iteration: masks, surgery, check, reconstruction, recalibration, tuning, report.

Its folder is filled in two steps, each of which ends with a JSON file that marks it as done: the
mended compact model (``cut.json``), then the tuned one (``report.json``).
"""

import copy
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import CutSettings, PruneStage
from pipeline.context import StageContext
from pipeline.evaluation import evaluate, headline
from pipeline.run_dir import CHECKPOINT, KEPT, METRICS
from pipeline.stages.channel_scores import measure_channels
from pipeline.stages.common import train_model
from pipeline.widths import TRACE_SIZE
from prune.cut import compose_kept, cut
from prune.hints import hint_channels, hint_errors
from prune.recalibrate import rebase, recalibrate
from prune.reconstruct import reconstruct
from prune.report import IterationReport, report_cut
from reid.files import write_json
from reid.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid.training.distillation import Teacher

REPORT = "report.json"
CUT_REPORT = "cut.json"
COMPACT = "compact.pt"
CHECK_PICTURES = 4
HINT_PICTURES = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """A model on its way to the target.

    Attributes:
        model: on the CPU.
        kept: which channels of the full-width model each layer still has.
        accuracy: mAP and CMC of the model.
        metrics: all of them, by distance.
    """

    model: nn.Module
    kept: dict[str, Tensor]
    accuracy: dict[str, float]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Iteration:
    """What one iteration is to do.

    Attributes:
        context: of the stage.
        settings: of the stage.
        number: from 1.
        count: K.
        widths: planned channels after it, by layer.
        full_width: the model before the first cut; teacher and original of reconstruction.
        groups: its layers whose channels go together.
    """

    context: StageContext
    settings: CutSettings
    number: int
    count: int
    widths: dict[str, int]
    full_width: nn.Module
    groups: list[tuple[str, ...]]

    @property
    def folder(self) -> Path:
        """Return where it writes."""
        return self.context.folder / f"iteration_{self.number}"

    @property
    def label(self) -> str:
        """Return what the log calls it."""
        return f"{self.context.stage} {self.number}/{self.count}"

    @property
    def accuracy_budget(self) -> float | None:
        """Return the mAP that it may lose; None if there is no limit, as for transfer."""
        return self.settings.accuracy_budget if isinstance(self.settings, PruneStage) else None

    @property
    def rounds(self) -> int:
        """Return how often it may be tuned."""
        if not isinstance(self.settings, PruneStage) or self.settings.accuracy_budget is None:
            return 1
        return 1 + self.settings.extra_tuning

    def is_finished(self) -> bool:
        """Tell whether there is nothing left to do."""
        return (self.folder / REPORT).exists()


def run_iteration(iteration: Iteration, state: State) -> None:
    """Take a state to the planned widths; go on where an interruption left off."""
    folder, context = iteration.folder, iteration.context
    if not (folder / CUT_REPORT).exists():
        _cut_and_mend(iteration, state)
    report = _read_report(folder / CUT_REPORT)
    seconds = dict(report.seconds)
    before = _judge(iteration, state.model, state.metrics)
    with _timed(seconds, "tuning"):
        tuned, rounds = _tune_within_budget(iteration, before)
    accuracy = report.accuracy | {"after_tuning": headline(tuned.metrics, context.config)}
    hints = report.hints | {"after_tuning": _hint_errors(iteration, tuned.model)}
    validated = {"before": before, "after_tuning": tuned.judged} if _judges_apart(iteration) else {}
    _save(iteration, CHECKPOINT, tuned.model)
    write_json(folder / METRICS, tuned.metrics)
    report = replace(
        report,
        accuracy=accuracy,
        seconds=seconds,
        hints=hints,
        tuning_rounds=rounds,
        validated=validated,
    )
    write_json(folder / REPORT, report.to_dict())
    for line in report.summary().splitlines():
        logger.info("%s: %s", iteration.label, line)


def exceeded_budget(iteration: Iteration) -> float | None:
    """Return the mAP that a finished iteration lost, if that is more than its budget."""
    budget = iteration.accuracy_budget
    if budget is None:
        return None
    report = _read_report(iteration.folder / REPORT)
    judged = report.validated or {step: value["mAP"] for step, value in report.accuracy.items()}
    lost = judged["before"] - judged["after_tuning"]
    return lost if lost > budget else None


def load_state(iteration: Iteration) -> State:
    """Load what a finished iteration left."""
    folder = iteration.folder
    return State(
        model=load_checkpoint(folder / CHECKPOINT)[0],
        kept=read_kept(folder / KEPT),
        accuracy=_read_report(folder / REPORT).accuracy["after_tuning"],
        metrics=json.loads((folder / METRICS).read_text()),
    )


def _cut_and_mend(iteration: Iteration, state: State) -> None:
    context, settings = iteration.context, iteration.settings
    logger.info("%s: masks and surgery", iteration.label)
    generator = torch.Generator().manual_seed(context.seed("check", iteration.number))
    seconds: dict[str, float] = {}
    with _timed(seconds, "scores"):
        measured = measure_channels(
            context,
            settings,
            state.model,
            widths=iteration.widths,
            groups=iteration.groups,
            iteration=iteration.number,
        )
    result = cut(
        state.model,
        iteration.widths,
        example=torch.randn(2, 3, *TRACE_SIZE, generator=generator),
        check_input=torch.randn(CHECK_PICTURES, 3, *context.input_size, generator=generator),
        criterion=settings.criterion,
        seed=context.seed("criterion", iteration.number),
        groups=iteration.groups,
        measured=measured,
    )
    report = report_cut(
        state.model,
        result,
        iteration.widths,
        example=context.example(),
        iteration=iteration.number,
        iterations=iteration.count,
    )
    seconds |= report.seconds
    model, kept = result.model, compose_kept(state.kept, result.kept)
    accuracy = {"before": state.accuracy}
    accuracy["after_surgery"] = _accuracy(model, context)
    if settings.reconstruction_pictures:
        with _timed(seconds, "reconstruction"):
            batches = context.training_batches(settings.reconstruction_pictures, "reconstruct")
            # Imitate the model before this cut: its normalisations fit, and little is missing.
            fits = reconstruct(model, state.model.cpu(), result.kept, torch.cat(batches))
        report = report.with_reconstruction(fits)
        accuracy["after_reconstruction"] = _accuracy(model, context)
    if settings.recalibration_pictures:
        with _timed(seconds, "recalibration"):
            batches = context.training_batches(settings.recalibration_pictures, "recalibrate")
            # Solved weights fit the statistics they were solved for; cut ones fit none.
            adjust = rebase if settings.reconstruction_pictures else recalibrate
            adjust(model, batches)
        accuracy["after_recalibration"] = _accuracy(model, context)
    _save(iteration, COMPACT, model)
    write_kept(iteration.folder / KEPT, kept)
    shown = context.config.evaluation
    report = replace(
        report,
        accuracy=accuracy,
        distance=shown.distance,
        measure="EER" if shown.task == "face" else "mAP",
        seconds=seconds,
        hints={"before_tuning": _hint_errors(iteration, model)},
    )
    write_json(iteration.folder / CUT_REPORT, report.to_dict())


@dataclass(frozen=True)
class _Tuned:
    """What a round of tuning ended with.

    Attributes:
        model: tuned.
        metrics: on query and gallery.
        judged: the mAP that the accuracy budget is judged by.
    """

    model: nn.Module
    metrics: dict[str, Any]
    judged: float


def _tune_within_budget(iteration: Iteration, before: float) -> tuple[_Tuned, int]:
    """Tune; once more, with the learning rate anew, as long as too much is lost.

    Returns:
        The best round, and how many rounds there were.
    """
    context, folder, budget = iteration.context, iteration.folder, iteration.accuracy_budget
    model, _ = load_checkpoint(folder / COMPACT)
    found: list[_Tuned] = []
    for number in range(iteration.rounds):
        last = number == iteration.rounds - 1
        made, measured = folder / f"round_{number}.pt", folder / f"round_{number}.json"
        if measured.exists():
            model, _ = load_checkpoint(made)
            metrics = json.loads(measured.read_text())
        else:
            _tune(iteration, model, number)
            metrics = evaluate(model, context)
            if not last:
                _save(iteration, made.name, model)
                write_json(measured, metrics)
        judged = _judge(iteration, model, metrics)
        found.append(_Tuned(copy.deepcopy(model), metrics, judged))
        lost = before - judged
        if budget is None or lost <= budget:
            break
        if not last:
            logger.warning(
                "%s: lost %.1f mAP, the budget is %.1f; tuning once more",
                iteration.label, 100 * lost, 100 * budget,
            )  # fmt: skip
    return max(found, key=lambda tuned: tuned.judged), len(found)


def _judge(iteration: Iteration, model: nn.Module, metrics: dict[str, Any]) -> float:
    """Return the mAP that counts for the budget, of a model whose metrics are known."""
    context = iteration.context
    if context.validation is not None and _judges_apart(iteration):
        metrics = evaluate(model, replace(context, data=context.validation))
    return headline(metrics, context.config)["mAP"]


def _judges_apart(iteration: Iteration) -> bool:
    """Tell whether the budget is judged on identities set apart, not on query and gallery."""
    return iteration.accuracy_budget is not None and iteration.context.validation is not None


def _tune(iteration: Iteration, model: nn.Module, number: int) -> None:
    context, settings = iteration.context, iteration.settings
    teacher = None
    if settings.teacher:
        hints = _hints(iteration, model)
        teacher = Teacher(iteration.full_width, settings.distillation, hints)
    folder = iteration.folder / f"round_{number}" if number else iteration.folder
    train_model(
        context,
        model,
        settings.tuning,
        teacher=teacher,
        folder=folder,
        label=iteration.label if not number else f"{iteration.label} again",
        purpose=(iteration.number, "again", number) if number else (iteration.number,),
    )


def _hints(iteration: Iteration, model: nn.Module) -> dict[str, Tensor]:
    kept = read_kept(iteration.folder / KEPT)
    return hint_channels(model, torch.zeros(1, 3, *TRACE_SIZE), kept)


def _hint_errors(iteration: Iteration, model: nn.Module) -> dict[str, float]:
    pictures = torch.cat(iteration.context.training_batches(HINT_PICTURES, "hints"))
    return hint_errors(model.cpu(), iteration.full_width.cpu(), _hints(iteration, model), pictures)


def _accuracy(model: nn.Module, context: StageContext) -> dict[str, float]:
    accuracy = headline(evaluate(model, context), context.config)
    model.cpu()
    return accuracy


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started


def _save(iteration: Iteration, name: str, model: nn.Module) -> None:
    context = iteration.context
    info = describe(
        model,
        context.config.model.architecture,
        input_size=context.input_size,
        parent_hash=context.parent_hash,
    )
    save_checkpoint(iteration.folder / name, model.cpu(), info)


def _read_report(path: Path) -> IterationReport:
    return IterationReport.from_dict(json.loads(path.read_text()))


def write_kept(path: Path, kept: dict[str, Tensor]) -> None:
    """Write which channels of the full-width model each layer still has."""
    write_json(path, {name: rows.tolist() for name, rows in kept.items()})


def read_kept(path: Path) -> dict[str, Tensor]:
    """Read which channels of the full-width model each layer still has."""
    return {name: torch.tensor(rows) for name, rows in json.loads(path.read_text()).items()}
