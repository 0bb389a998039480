"""One prune iteration: masks, surgery, check, reconstruction, recalibration, tuning, report.

The folder of an iteration is filled in two steps, and a JSON file marks the end of each step:
``cut.json`` is written after reconstruction and recalibration, ``iteration.json`` after tuning.
The files of a step have checksums: a step with a damaged file is made again.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.rank_statistics import ask_moments
from pipeline.run_dir import CHECKPOINT, KEPT, METRICS
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import headline, main_measure
from pipeline.stages.channel_scores import scoring_data, warn_of_guessing
from pipeline.stages.iteration import REPORT, Iteration, State, write_kept, write_metrics
from pipeline.stages.tuning import judge, judges_apart, tune_within_budget
from pipeline.target_widths import TRACE_SIZE
from prune.hints import hint_errors
from prune.recalibrate import rebase, recalibrate
from prune.reconstruct import LayerFit, reconstruct
from prune.report import read_report, report_cut, write_report
from prune.surgery import Cut, compose_kept
from reid_edge.core.checksums import are_intact, record_checksums

CUT_REPORT = "cut.json"
COMPACT = "compact.pt"
CHECK_IMAGES = 4
HINT_IMAGES = 64

logger = logging.getLogger(__name__)


def run_iteration(iteration: Iteration, state: State) -> None:
    """Take a model to the planned widths; an interrupted iteration is resumed."""
    folder, context = iteration.folder, iteration.context
    cut = [folder / name for name in (COMPACT, KEPT, CUT_REPORT)]
    if not (folder / CUT_REPORT).exists() or not are_intact(*cut):
        _cut_and_reconstruct(iteration, state)
    report = read_report(folder / CUT_REPORT)
    seconds = dict(report.seconds)
    before = state.judged
    if before is None:
        before = judge(iteration, state.model, state.metrics)
    with _timed(seconds, "tuning"):
        tuned, rounds = tune_within_budget(iteration, COMPACT, before)
    validated = {"before": before, "after_tuning": tuned.judged} if judges_apart(iteration) else {}
    hints = report.hints | {"after_tuning": _hint_errors(iteration, tuned.model)}
    iteration.save(CHECKPOINT, tuned.model)
    write_metrics(folder / METRICS, tuned.metrics)
    shown = headline(tuned.metrics, context.config.evaluation.distance)
    report = report.model_copy(
        update={
            "accuracy": report.accuracy | {"after_tuning": shown},
            "seconds": seconds,
            "hints": hints,
            "tuning_rounds": rounds,
            "validated": validated,
        }
    )
    write_report(folder / REPORT, report)
    record_checksums(*iteration.results)
    for line in report.summary().splitlines():
        logger.info("%s: %s", iteration.label, line)


def _cut_and_reconstruct(iteration: Iteration, state: State) -> None:
    """Cut, reconstruct and recalibrate; write the compact model and ``cut.json``."""
    context, settings = iteration.context, iteration.settings
    seconds: dict[str, float] = {}
    logger.info("%s: masks and surgery", iteration.label)
    generator = torch.Generator().manual_seed(context.seed("check", iteration.number))
    with _timed(seconds, "scores"):
        data = scoring_data(context, settings, "scores", iteration.number)
    result = iteration.cutter(
        state.model,
        iteration.widths,
        example=torch.randn(2, 3, *TRACE_SIZE, generator=generator),
        check_input=torch.randn(CHECK_IMAGES, 3, *context.input_size, generator=generator),
        criterion=settings.criterion,
        data=data,
        seed=context.seed("criterion", iteration.number),
        groups=iteration.groups,
    )
    warn_of_guessing(context, settings.criterion, data)
    report = report_cut(
        state.model,
        result,
        iteration.widths,
        example=context.example(),
        iteration=iteration.number,
        iterations=iteration.count,
    )
    for step, value in report.seconds.items():
        seconds[step] = seconds.get(step, 0.0) + value
    accuracy = {
        "before": headline(state.metrics, context.config.evaluation.distance),
        "after_surgery": _accuracy(iteration, result.model),
    }
    fits = _reconstruct(iteration, state, result, seconds, accuracy)
    iteration.save(COMPACT, result.model)
    write_kept(iteration.folder / KEPT, compose_kept(state.kept, result.kept))
    shown = context.config.evaluation
    report = report.with_reconstruction(fits).model_copy(
        update={
            "accuracy": accuracy,
            "distance": shown.distance,
            "measure": main_measure(state.metrics, shown.task),
            "seconds": seconds,
            "hints": {"before_tuning": _hint_errors(iteration, result.model)},
        }
    )
    write_report(iteration.folder / CUT_REPORT, report)
    record_checksums(*(iteration.folder / name for name in (COMPACT, KEPT, CUT_REPORT)))


def _reconstruct(
    iteration: Iteration,
    state: State,
    result: Cut,
    seconds: dict[str, float],
    accuracy: dict[str, dict[str, float]],
) -> dict[str, LayerFit]:
    """Reconstruct and recalibrate the compact model in place; record seconds and accuracy."""
    context, settings, model = iteration.context, iteration.settings, result.model
    fits: dict[str, LayerFit] = {}
    if settings.reconstruction_images:
        with _timed(seconds, "reconstruction"):
            batches = context.training_batches(settings.reconstruction_images, "reconstruct")
            # The target is the model before this cut: its BatchNorm statistics still fit.
            fits = reconstruct(
                model,
                state.model.cpu(),
                result.kept,
                torch.cat(batches),
                progress=context.work(f"{iteration.label}: reconstruction"),
            )
        accuracy["after_reconstruction"] = _accuracy(iteration, model)
    if settings.recalibration_images:
        with _timed(seconds, "recalibration"):
            batches = context.training_batches(settings.recalibration_images, "recalibrate")
            progress = context.work(f"{iteration.label}: recalibration")
            if settings.reconstruction_images:
                # Reconstructed weights fit the old statistics, so rebase keeps the function.
                rebase(model, batches, ask_moments(context), progress)
            else:
                recalibrate(model, batches, progress)
        accuracy["after_recalibration"] = _accuracy(iteration, model)
    return fits


def _accuracy(iteration: Iteration, model: nn.Module) -> dict[str, float]:
    context = iteration.context
    accuracy = headline(
        evaluate_stage(model, context, may_collapse=True, title=iteration.label),
        context.config.evaluation.distance,
    )
    model.cpu()
    return accuracy


def _hint_errors(iteration: Iteration, model: nn.Module) -> dict[str, float]:
    images = torch.cat(iteration.context.training_batches(HINT_IMAGES, "hints"))
    full_width = iteration.full_width.cpu()
    return hint_errors(model.cpu(), full_width, iteration.hints(model), images)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started
