"""The training after a cut; with an accuracy budget it is repeated while too much is lost."""

import copy
import logging
from dataclasses import dataclass, replace

from torch import nn

from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import main_value
from pipeline.stages.common import train_model
from pipeline.stages.iteration import REPORT, Iteration, read_metrics, write_metrics
from pipeline.teachers import load_teacher
from prune.report import read_report
from reid_edge.core.checksums import are_intact, record_checksums
from reid_edge.metrics.results import Evaluation
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.training.distillation import Teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuned:
    """The result of a round of tuning.

    Attributes:
        model: tuned.
        metrics: of it, on query and gallery.
        judged: mAP that is compared with the accuracy budget.
    """

    model: nn.Module
    metrics: Evaluation
    judged: float


def tune_within_budget(iteration: Iteration, start: str, before: float) -> tuple[Tuned, int]:
    """Tune; repeat with a restarted learning rate while more than the budget is lost.

    Args:
        iteration: whose model to tune.
        start: name of that model's file in its folder.
        before: the mAP before the cut, see :func:`judge`.

    Returns:
        The best round, and how many rounds there were.
    """
    context, settings, folder = iteration.context, iteration.settings, iteration.folder
    budget = iteration.accuracy_budget
    model, _ = load_checkpoint(folder / start)
    found: list[Tuned] = []
    for number in range(iteration.rounds):
        last = number == iteration.rounds - 1
        made, measured = folder / f"round_{number}.pt", folder / f"round_{number}.json"
        if measured.exists() and are_intact(made, measured):
            model, _ = load_checkpoint(made)
            metrics = read_metrics(measured)
        else:
            teacher = None
            if settings.teacher:
                hints = iteration.hints(model)
                teacher = (
                    Teacher(iteration.full_width, settings.distillation, hints)
                    if context.config.teacher.file is None and not context.config.teacher.cached
                    else load_teacher(context, settings.distillation)
                )
            train_model(
                context,
                model,
                settings.tuning,
                teacher=teacher,
                folder=folder / f"round_{number}" if number else folder,
                label=f"{iteration.label} again" if number else iteration.label,
                purpose=(iteration.number, "again", number) if number else (iteration.number,),
            )
            # Finetune may still mend a model that gives the same embedding for everybody.
            metrics = evaluate_stage(model, context, may_collapse=True, title=iteration.label)
            if not last:
                iteration.save(made.name, model)
                write_metrics(measured, metrics)
                record_checksums(made, measured)
        judged = judge(iteration, model, metrics)
        found.append(Tuned(copy.deepcopy(model), metrics, judged))
        lost = before - judged
        if budget is None or lost <= budget:
            break
        if not last:
            logger.warning(
                "%s: lost %.1f mAP, the budget is %.1f; tuning once more",
                iteration.label, 100 * lost, 100 * budget,
            )  # fmt: skip
    return max(found, key=lambda tuned: tuned.judged), len(found)


def judge(iteration: Iteration, model: nn.Module, metrics: Evaluation) -> float:
    """Return the mAP of a model that is compared with the accuracy budget.

    Without identities, when there is no budget, it is the likeness to the full-width model.
    """
    context = iteration.context
    if context.validation is not None and judges_apart(iteration):
        metrics = evaluate_stage(
            model,
            replace(context, data=context.validation),
            may_collapse=True,
            title=iteration.label,
        )
        model.cpu()
    value = main_value(metrics, "person", context.config.evaluation.distance)
    assert value is not None, "ranking is always measured"
    return value


def judges_apart(iteration: Iteration) -> bool:
    """Return whether the validation identities, not query and gallery, judge the budget."""
    return iteration.accuracy_budget is not None and iteration.context.validation is not None


def why_back(iteration: Iteration) -> str:
    """Log and return why the stage goes back to the model before a finished iteration.

    The text is empty if the iteration lost no more mAP than its budget.
    """
    budget = iteration.accuracy_budget
    if budget is None:
        return ""
    report = read_report(iteration.folder / REPORT)
    judged = report.validated or {step: value["mAP"] for step, value in report.accuracy.items()}
    lost = judged["before"] - judged["after_tuning"]
    if lost <= budget:
        return ""
    where = " on the identities set apart" if judges_apart(iteration) else ""
    previous = f"iteration {iteration.number - 1}" if iteration.number > 1 else "full width"
    note = (
        f"{iteration.context.stage} went back to {previous}: iteration {iteration.number} of "
        f"{iteration.count} lost {100 * lost:.1f} mAP{where}, more than the {100 * budget:.1f} of "
        f"{iteration.context.stage}.accuracy_budget"
    )
    logger.warning("%s", note)
    return note
