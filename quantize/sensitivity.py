"""Measure the error of int8 by layer; choose layers that stay in float for a budget."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from quantize.agreement import compare
from quantize.calibrate import Calibrated
from quantize.call_sites import call_sites, is_inside
from quantize.measurements import Agreement, BudgetStep, LayerSensitivity, Sensitivity
from quantize.simulation import Simulation


def layer_groups(model: nn.Module) -> list[str]:
    """Return the modules that are measured one at a time, in order of execution.

    These are the modules that directly hold a convolution or a linear layer (a gate, a depthwise
    and its pointwise convolution, a residual block), and those layers that the model itself holds.
    """
    modules = dict(model.named_modules())
    holders = [
        module.rpartition(".")[0] or module
        for module in call_sites(model).values()
        if isinstance(modules[module], nn.Conv2d | nn.Linear)
    ]
    distinct = list(dict.fromkeys(holders))
    return [
        name
        for name in distinct
        if not is_inside(name, [other for other in distinct if other != name])
    ]


@torch.inference_mode()
def measure_sensitivity(
    model: nn.Module,
    calibrated: Calibrated,
    batches: Iterable[Tensor],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Round every group of layers alone.

    Float arithmetic on rounded values replaces the engine; biases are not corrected. The opposite
    measurement, with only one group in float, is less exact: every change also changes the rounding
    of later layers, and the difference is smaller than this noise.

    Args:
        model: the float model that was calibrated; it is left as it is.
        calibrated: with the ranges of all layers.
        batches: images (N, 3, H, W) that calibration did not see; a few dozen are enough.
        progress: called with the number of groups that are done and how many there are.
    """
    evaluated = copy.deepcopy(model).cpu().eval()
    simulation = Simulation(calibrated.prepared, call_sites(evaluated), list(batches))
    groups = [group for group in layer_groups(evaluated) if simulation.size_of(group)[0]]
    simulation.round_only([])
    reference = simulation.embed()
    macs = simulation.count_macs()

    def error() -> float:
        return compare(simulation.embed(), reference).mean_cosine_error

    simulation.round_everything()
    everything = error()
    simulation.round_image()
    image = error()
    simulation.round_operators(groups)
    operators = error()
    costs = []
    for done, group in enumerate(groups):
        simulation.round_only([group])
        alone = error()
        simulation.round_inside([group])
        saved = error()
        count, weights = simulation.size_of(group)
        inside = sum(value for name, value in macs if is_inside(name, [group]))
        costs.append(LayerSensitivity(group, count, weights, inside, alone, saved))
        if progress is not None:
            progress(done + 1, len(groups))
    costs.sort(key=lambda cost: cost.saved, reverse=True)
    return Sensitivity(everything, image, operators, tuple(costs))


def steps_to_budget(
    measure: Callable[[tuple[str, ...]], Agreement],
    ranked: Sequence[str],
    *,
    budget: float,
    most: int,
) -> Iterator[BudgetStep]:
    """Leave one more layer in float at every step, until the error is within a budget.

    Args:
        measure: makes an int8 model with these layers in float and compares it.
        ranked: layers, the one that int8 costs most first.
        budget: largest mean 1 - cosine that is allowed.
        most: how many layers may be left in float.

    Yields:
        Every step, the first one with no layer in float. The last one is within the budget or has
        the largest allowed number of layers in float.
    """
    for count in range(min(most, len(ranked)) + 1):
        chosen = tuple(ranked[:count])
        step = BudgetStep(chosen, measure(chosen))
        yield step
        if step.agreement.mean_cosine_error <= budget:
            return
