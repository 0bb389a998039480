"""Simulate int8 in float arithmetic: selected parts of a model round as int8 does."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from quantize.call_sites import is_inside
from quantize.prepared import Rounding, observed_weight, observer_names, weighted_layers
from reid_edge.core.cost import counted_macs


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
    """The maker and the users of a rounded tensor, by names of modules; empty for operators."""

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


class Simulation:
    """A float model in which selected weights and activations round as int8 does.

    Args:
        prepared: the calibrated graph, with its observers; a copy of it rounds.
        sites: the modules of the float model by the graph's names for their calls.
        batches: images (N, 3, H, W) to embed.
    """

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
        """Round the weights of these layers, and the outputs that only these layers read."""
        self._switch(
            lambda weight: is_inside(weight.name, layers),
            lambda activation: all(
                is_inside(name, layers) for name in (activation.maker, *activation.users)
            ),
        )

    def round_everything(self) -> None:
        """Round as int8 does."""
        self._switch(lambda _: True, lambda _: True)

    def round_image(self) -> None:
        """Round the input."""
        self._switch(lambda _: False, lambda activation: activation.is_input)

    def round_operators(self, layers: Sequence[str]) -> None:
        """Round all outputs that these layers do not make, except the input."""
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
        """Return the embeddings (N, D) of all images."""
        return torch.cat([self._graph(batch) for batch in self._batches])

    def count_macs(self) -> list[tuple[str, int]]:
        """Return the multiply-accumulates of every call of a layer for one image."""
        with counted_macs((weight.name, weight.layer) for weight in self._weights) as calls:
            self._graph(self._batches[0][:1])
        return calls

    def size_of(self, layer: str) -> tuple[int, int]:
        """Return the number of layers with weights and of weights; shared ones count once."""
        inside = {w.name: w.exact.numel() for w in self._weights if is_inside(w.name, [layer])}
        return len(inside), sum(inside.values())
