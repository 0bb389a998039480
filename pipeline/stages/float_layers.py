"""Which layers of the stage ``quantize`` stay in float, and what each of them costs."""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.progress import progress_bar
from quantize.agreement import Agreement, Reference
from quantize.calibrate import Calibrated, spare_layers
from quantize.float_budget import BudgetStep, leave_dearest_in_float
from quantize.sensitivity import Sensitivity, measure_sensitivity
from quantize.static import convert_calibrated

SCAN_PICTURES = 64

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
        reference: the float model's embeddings of the pictures held back.
    """
    settings = context.config.quantize
    budget = settings.accuracy_budget
    if reference is None or not (settings.scan or budget is not None):
        return FloatChoice(calibrated, {})

    @cache
    def measure(layers: tuple[str, ...]) -> Agreement:
        spared = spare_layers(model, calibrated, layers)
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
    steps = list(
        leave_dearest_in_float(measure, ranked, budget=budget, most=settings.max_float_layers)
    )
    chosen = min(steps, key=lambda step: step.agreement.mean_cosine_error)
    told["budget"] = {"mean_cosine_error": budget, "steps": [step.to_dict() for step in steps]}
    _tell(chosen, budget)
    return FloatChoice(spare_layers(model, calibrated, chosen.float_layers), told)


def _scan(model: nn.Module, calibrated: Calibrated, reference: Reference) -> Sensitivity:
    pictures = torch.cat(reference.batches)[:SCAN_PICTURES]
    with progress_bar("rounding layers one at a time") as progress:
        task = progress.add_task("layers", total=None)
        return measure_sensitivity(
            model,
            calibrated,
            [pictures],
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _tell(chosen: BudgetStep, budget: float) -> None:
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
            "%.5f; raise quantize.max_float_layers, or try quantize.mode=qat", error, names, budget,
        )  # fmt: skip
