"""Choose the layers that the stage ``quantize`` leaves in float; measure the cost of int8."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.stage_results import Budget
from pipeline.stages.quantize import QuantizeStage
from quantize.agreement import Reference
from quantize.calibrate import Calibrated, keep_in_float
from quantize.call_sites import is_inside
from quantize.count import ASKED_FOR
from quantize.measurements import Agreement, BudgetStep, QuantizationReport, Sensitivity
from quantize.sensitivity import measure_sensitivity, steps_to_budget
from quantize.static import convert_calibrated

SCAN_IMAGES = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FloatChoice:
    """What stays in float.

    Attributes:
        calibrated: the layers in float are those that the settings name and those that the scan
            chose.
        scan: what int8 costs layer by layer, if it was measured.
        budget: the steps towards the accuracy budget, if there is one.
    """

    calibrated: Calibrated
    scan: Sensitivity | None = None
    budget: Budget | None = None


def choose_float_layers(
    context: StageContext[QuantizeStage],
    model: nn.Module,
    calibrated: Calibrated,
    reference: Reference | None,
) -> FloatChoice:
    """Scan the layers if the settings ask for it, or if all-int8 misses the accuracy budget.

    Args:
        context: of the stage.
        model: the float model.
        calibrated: with the layers in float that the settings name.
        reference: the float model's embeddings of the images held back.
    """
    settings = context.settings
    budget = settings.accuracy_budget
    if reference is None or not (settings.scan or budget is not None):
        return FloatChoice(calibrated)

    @cache
    def measure(layers: tuple[str, ...]) -> Agreement:
        less = keep_in_float(model, calibrated, layers)
        int8 = convert_calibrated(less, bias_correction=settings.bias_correction)
        return reference.agreement(int8, settings.engine)

    scan: Sensitivity | None = None
    ranked: list[str] = []
    if settings.scan or (budget is not None and measure(()).mean_cosine_error > budget):
        images = torch.cat(reference.batches)[:SCAN_IMAGES]
        scan = measure_sensitivity(
            model,
            calibrated,
            [images],
            progress=context.work("quantize: rounding layers one at a time"),
        )
        ranked = [cost.layer for cost in scan.layers if cost.saved > 0]
    if budget is None:
        return FloatChoice(calibrated, scan)
    steps = list(steps_to_budget(measure, ranked, budget=budget, most=settings.max_float_layers))
    chosen = min(steps, key=lambda step: step.agreement.mean_cosine_error)
    _log_choice(chosen, budget, settings, ranked)
    return FloatChoice(
        keep_in_float(model, calibrated, chosen.float_layers),
        scan,
        Budget(mean_cosine_error=budget, steps=tuple(steps)),
    )


def warn_of_ignored(asked_for: Sequence[str], report: QuantizationReport) -> None:
    """Warn of names in ``quantize.float_layers`` that have no effect.

    FX quantizes a module without weights together with the modules around it.
    """
    left = [layer.name for layer in report.left_in_float if layer.reason == ASKED_FOR]
    for name in asked_for:
        if not any(is_inside(layer, [name]) for layer in left):
            logger.warning(
                "quantize.float_layers: %s on its own leaves nothing in float; name the module "
                "around it, or a layer with weights", name,
            )  # fmt: skip


def _log_choice(
    chosen: BudgetStep, budget: float, settings: QuantizeStage, ranked: Sequence[str]
) -> None:
    """Log whether the budget is met, and what may help if it is not."""
    error = chosen.agreement.mean_cosine_error
    names = ", ".join(chosen.float_layers) or "no layer"
    if error <= budget:
        logger.info(
            "quantize: %s left in float, mean 1 - cosine %.5f is within quantize.accuracy_budget "
            "%.5f", names, error, budget,
        )  # fmt: skip
    else:
        ways = []
        if len(ranked) > settings.max_float_layers:
            ways.append("raise quantize.max_float_layers")
        if settings.mode != "qat":
            ways.append("try quantize.mode=qat")
        advice = f"; {', or '.join(ways)}" if ways else ""
        logger.warning(
            "quantize: mean 1 - cosine %.5f with %s left in float misses quantize.accuracy_budget "
            "%.5f%s", error, names, budget, advice,
        )  # fmt: skip
