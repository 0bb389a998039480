"""What int8 costs layer by layer, and which layers stay in float to keep an accuracy budget."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantize.agreement import Agreement, compare
from quantize.calibrate import Calibrated
from quantize.call_sites import call_sites, is_inside
from quantize.simulation import Simulation


@dataclass(frozen=True)
class LayerCost:
    """What int8 costs in one layer, or in layers that belong together.

    Attributes:
        layer: name of the module; all layers inside it are meant.
        weighted_layers: convolutions and linear layers in it.
        weights: their weights; each takes three bytes more in float.
        macs: their multiply-accumulates for an image, which float is slower at.
        alone: mean 1 - cosine of the embeddings when only this is int8: its weights and outputs.
        spared: the same without the outputs that other layers read, which are int8 in either case:
            what leaving it in float takes back.
    """

    layer: str
    weighted_layers: int
    weights: int
    macs: int
    alone: float
    spared: float


@dataclass(frozen=True)
class Sensitivity:
    """What int8 costs in a model, layer by layer.

    Attributes:
        everything: mean 1 - cosine with everything int8, before bias correction.
        image: the same with only the input int8.
        operators: the same with only the outputs of operators outside all layers int8 (sums,
            products, pooling), which cannot be left in float.
        layers: dearest first, by ``spared``.
    """

    everything: float
    image: float
    operators: float
    layers: tuple[LayerCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the costs as what JSON can hold."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def layer_groups(model: nn.Module) -> list[str]:
    """Return the modules that are looked at one at a time, in order of execution.

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

    Float arithmetic on rounded values stands in for the engine; biases are not corrected. The other
    way round, with only one group in float, says less: every change stirs the rounding behind it,
    and the difference is smaller than that noise.

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
        spared = error()
        count, weights = simulation.size_of(group)
        inside = sum(value for name, value in macs if is_inside(name, [group]))
        costs.append(LayerCost(group, count, weights, inside, alone, spared))
        if progress is not None:
            progress(done + 1, len(groups))
    costs.sort(key=lambda cost: cost.spared, reverse=True)
    return Sensitivity(everything, image, operators, tuple(costs))


@dataclass(frozen=True)
class BudgetStep:
    """An int8 model with some layers in float.

    Attributes:
        float_layers: which.
        agreement: with the float model.
    """

    float_layers: tuple[str, ...]
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Return the step as what JSON can hold."""
        return {"float_layers": list(self.float_layers), "agreement": self.agreement.to_dict()}


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
        Every step, beginning with none in float; the last one is within the budget, or has as
        many layers in float as is allowed.
    """
    for count in range(min(most, len(ranked)) + 1):
        chosen = tuple(ranked[:count])
        step = BudgetStep(chosen, measure(chosen))
        yield step
        if step.agreement.mean_cosine_error <= budget:
            return
