"""What int8 costs layer by layer, found by rounding one part of a float model at a time."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from quantize.agreement import Agreement, compare
from quantize.calibrate import Calibrated
from quantize.call_sites import call_sites
from quantize.layer_names import is_inside
from quantize.prepared import observer_names, weighted_layers
from quantize.rounding import Rounding
from quantize.weight_scales import observed_weight


@dataclass(frozen=True)
class LayerCost:
    """What int8 costs in one layer, or in layers that belong together.

    Attributes:
        layer: name of the module; all layers inside it are meant.
        weighted_layers: convolutions and linear layers in it.
        weights: their weights; each takes three bytes more in float.
        macs: their multiply-accumulates for a picture, which float is slower at.
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
        picture: the same with only the input int8.
        operators: the same with only the outputs of operators outside all layers int8 (sums,
            products, pooling), which cannot be left in float.
        layers: dearest first, by ``spared``.
    """

    everything: float
    picture: float
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
        batches: pictures (N, 3, H, W) that calibration did not see; a few dozen are enough.
        progress: called with the number of groups that are done and how many there are.
    """
    evaluated = copy.deepcopy(model).cpu().eval()
    simulation = _Simulation(calibrated.prepared, call_sites(evaluated), list(batches))
    groups = [group for group in layer_groups(evaluated) if simulation.size_of(group)[0]]
    simulation.round_only([])
    reference = simulation.embed()
    macs = simulation.count_macs()

    def error() -> float:
        return compare(simulation.embed(), reference).mean_cosine_error

    simulation.round_everything()
    everything = error()
    simulation.round_picture()
    picture = error()
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
    return Sensitivity(everything, picture, operators, tuple(costs))


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


def leave_dearest_in_float(
    measure: Callable[[tuple[str, ...]], Agreement],
    ranked: Sequence[str],
    *,
    budget: float,
    most: int,
) -> Iterator[BudgetStep]:
    """Leave one layer after another in float until the error is within a budget.

    Args:
        measure: makes an int8 model with these layers in float and compares it.
        ranked: layers, dearest first.
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


class _Switch(nn.Module):
    """A rounding that can be turned off."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self.rounding = rounding
        self.on = True

    def forward(self, x: Tensor) -> Tensor:
        return self.rounding(x) if self.on else x


@dataclass(frozen=True)
class _Activation:
    """Who makes and who uses a rounded tensor: names of float modules, empty for operators."""

    switch: _Switch
    maker: str
    users: tuple[str, ...]
    is_input: bool


@dataclass(frozen=True)
class _Weight:
    name: str
    layer: nn.Conv2d | nn.Linear
    exact: Tensor
    rounded: Tensor


class _Simulation:
    """A float model any part of which can be made to round as int8 does."""

    def __init__(
        self, prepared: fx.GraphModule, sites: dict[str, str], batches: list[Tensor]
    ) -> None:
        self._batches = batches
        self._graph = copy.deepcopy(prepared)
        self._weights = [
            _Weight(
                sites[str(weighted.node.target)],
                weighted.layer,
                weighted.layer.weight.detach(),
                Rounding(observed_weight(weighted))(weighted.layer.weight.detach()),
            )
            for weighted in weighted_layers(self._graph)
        ]
        modules = dict(self._graph.named_modules(remove_duplicate=False))
        switches = {name: _Switch(Rounding(modules[name])) for name in observer_names(self._graph)}
        for name, switch in switches.items():
            self._graph.set_submodule(name, switch)

        def owner(node: object) -> str:
            if not isinstance(node, fx.Node) or node.op != "call_module":
                return ""
            return sites.get(str(node.target), "")

        self._activations = [
            _Activation(
                switches[str(node.target)],
                owner(node.args[0]),
                tuple(map(owner, node.users)),
                isinstance(node.args[0], fx.Node) and node.args[0].op == "placeholder",
            )
            for node in self._graph.graph.nodes
            if node.op == "call_module" and str(node.target) in switches
        ]

    def round_only(self, layers: Sequence[str]) -> None:
        """Round the weights and the outputs of these layers."""
        self._switch(
            lambda weight: is_inside(weight.name, layers),
            lambda activation: is_inside(activation.maker, layers),
        )

    def round_inside(self, layers: Sequence[str]) -> None:
        """Round their weights, and what they make for each other only."""
        self._switch(
            lambda weight: is_inside(weight.name, layers),
            lambda activation: all(
                is_inside(name, layers) for name in (activation.maker, *activation.users)
            ),
        )

    def round_everything(self) -> None:
        """Round as int8 does."""
        self._switch(lambda _: True, lambda _: True)

    def round_picture(self) -> None:
        """Round the input."""
        self._switch(lambda _: False, lambda activation: activation.is_input)

    def round_operators(self, layers: Sequence[str]) -> None:
        """Round what none of these layers makes, except the input."""
        self._switch(
            lambda _: False,
            lambda activation: not activation.is_input and not is_inside(activation.maker, layers),
        )

    def _switch(
        self, weights: Callable[[_Weight], bool], activations: Callable[[_Activation], bool]
    ) -> None:
        for weight in self._weights:
            chosen = weight.rounded if weights(weight) else weight.exact
            weight.layer.weight = nn.Parameter(chosen, requires_grad=False)
        for activation in self._activations:
            activation.switch.on = activations(activation)

    def embed(self) -> Tensor:
        """Return the embeddings (N, D) of all pictures."""
        return torch.cat([self._graph(batch) for batch in self._batches])

    def count_macs(self) -> list[tuple[str, int]]:
        """Return the multiply-accumulates of every call of a layer for one picture."""
        counted: list[tuple[str, int]] = []

        def count(weight: _Weight, output: Tensor) -> None:
            positions = output[0].numel() // output.shape[1]
            counted.append((weight.name, weight.exact.numel() * positions))

        handles = [
            weight.layer.register_forward_hook(
                lambda _module, _inputs, output, weight=weight: count(weight, output)
            )
            for weight in self._weights
        ]
        self._graph(self._batches[0][:1])
        for handle in handles:
            handle.remove()
        return counted

    def size_of(self, layer: str) -> tuple[int, int]:
        """Return how many layers with weights it has, and how many weights; shared ones once."""
        inside = {w.name: w.exact.numel() for w in self._weights if is_inside(w.name, [layer])}
        return len(inside), sum(inside.values())
