"""Which layers of the stage ``quantize`` stay in float, and what each of them costs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.progress import progress_bar
from pipeline.settings.quantize import QuantizeStage
from quantize.agreement import Agreement, Reference
from quantize.calibrate import Calibrated, keep_in_float
from quantize.call_sites import is_inside
from quantize.count import ASKED_FOR, QuantizationReport
from quantize.sensitivity import (
    BudgetStep,
    Sensitivity,
    measure_sensitivity,
    steps_to_budget,
)
from quantize.static import convert_calibrated

SCAN_IMAGES = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FloatChoice:
    """What stays in float.

    Attributes:
        calibrated: with the layers in float that the settings name, then those that the scan
            chose.
        told: the scan and the steps towards the budget as plain data, as far as there were any.
    """

    calibrated: Calibrated
    told: dict[str, Any]


def choose_float_layers(
    context: StageContext, model: nn.Module, calibrated: Calibrated, reference: Reference | None
) -> FloatChoice:
    """Scan the layers if that is asked for, or if the accuracy budget is not met without.

    Args:
        context: of the stage.
        model: the float model.
        calibrated: with the layers in float that the settings name.
        reference: the float model's embeddings of the images held back.
    """
    settings = context.config.quantize
    budget = settings.accuracy_budget
    if reference is None or not (settings.scan or budget is not None):
        return FloatChoice(calibrated, {})

    @cache
    def measure(layers: tuple[str, ...]) -> Agreement:
        spared = keep_in_float(model, calibrated, layers)
        int8 = convert_calibrated(spared, bias_correction=settings.bias_correction)
        return reference.agreement(int8, settings.engine)

    told: dict[str, Any] = {}
    ranked: list[str] = []
    if settings.scan or (budget is not None and measure(()).mean_cosine_error > budget):
        found = _scan(model, calibrated, reference)
        told["scan"] = found.to_dict()
        ranked = [cost.layer for cost in found.layers if cost.spared > 0]
    if budget is None:
        return FloatChoice(calibrated, told)
    steps = list(steps_to_budget(measure, ranked, budget=budget, most=settings.max_float_layers))
    chosen = min(steps, key=lambda step: step.agreement.mean_cosine_error)
    told["budget"] = {"mean_cosine_error": budget, "steps": [step.to_dict() for step in steps]}
    _tell(chosen, budget, _advice(settings, ranked))
    return FloatChoice(keep_in_float(model, calibrated, chosen.float_layers), told)


def warn_of_ignored(asked_for: Sequence[str], report: QuantizationReport) -> None:
    """Warn of names in ``quantize.float_layers`` that leave nothing in float.

    FX takes what has no weights into int8 together with what is around it.
    """
    left = [layer.name for layer in report.left_in_float if layer.reason == ASKED_FOR]
    for name in asked_for:
        if not any(is_inside(layer, [name]) for layer in left):
            logger.warning(
                "quantize.float_layers: %s on its own leaves nothing in float; name the module "
                "around it, or a layer with weights", name,
            )  # fmt: skip


def _scan(model: nn.Module, calibrated: Calibrated, reference: Reference) -> Sensitivity:
    images = torch.cat(reference.batches)[:SCAN_IMAGES]
    with progress_bar("rounding layers one at a time") as progress:
        task = progress.add_task("layers", total=None)
        return measure_sensitivity(
            model,
            calibrated,
            [images],
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _advice(settings: QuantizeStage, ranked: Sequence[str]) -> str:
    """Return what may help where the budget is missed."""
    ways = []
    if len(ranked) > settings.max_float_layers:
        ways.append("raise quantize.max_float_layers")
    if settings.mode != "qat":
        ways.append("try quantize.mode=qat")
    return f"; {', or '.join(ways)}" if ways else ""


def _tell(chosen: BudgetStep, budget: float, advice: str) -> None:
    error = chosen.agreement.mean_cosine_error
    names = ", ".join(chosen.float_layers) or "no layer"
    if error <= budget:
        logger.info(
            "quantize: %s left in float, mean 1 - cosine %.5f is within quantize.accuracy_budget "
            "%.5f", names, error, budget,
        )  # fmt: skip
    else:
        logger.warning(
            "quantize: mean 1 - cosine %.5f with %s left in float misses quantize.accuracy_budget "
            "%.5f%s", error, names, budget, advice,
        )  # fmt: skip
