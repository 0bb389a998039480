"""A model between ``prepare_fx`` and ``convert_fx``: its layers, its observers, and their rounding.

Float arithmetic on rounded values shows the error of int8 without an engine.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import FakeQuantizeBase
from torch.ao.quantization.observer import FixedQParamsObserver, UniformQuantizationObserverBase

from quantize.fold import layer_and_norm

Observer = UniformQuantizationObserverBase | FixedQParamsObserver


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution or linear layer that is going to be int8.

    Attributes:
        node: the node that calls it.
        called: the module called: the layer itself, or the layer fused with its ReLU.
        layer: the layer itself.
        input_observer: chooses the range of its input.
    """

    node: fx.Node
    called: nn.Module
    layer: nn.Conv2d | nn.Linear
    input_observer: nn.Module


def weighted_layers(prepared: fx.GraphModule) -> Iterator[WeightedLayer]:
    """Go through the layers with weights whose input is observed, in order of execution."""
    # With duplicates, because operators that keep their input's range share its observer.
    modules = dict(prepared.named_modules(remove_duplicate=False))
    for node in prepared.graph.nodes:
        if node.op != "call_module" or getattr(modules[str(node.target)], "qconfig", None) is None:
            continue
        called = modules[str(node.target)]
        layer, _ = layer_and_norm(called)
        source = node.args[0] if node.args else None
        observer = modules.get(str(source.target)) if isinstance(source, fx.Node) else None
        if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(observer, Observer):
            yield WeightedLayer(node, called, layer, observer)


def observer_names(prepared: fx.GraphModule) -> list[str]:
    """Return the names of all observers; one that is shared has several."""
    modules = prepared.named_modules(remove_duplicate=False)
    return [name for name, module in modules if isinstance(module, Observer)]


def observed_nodes(prepared: fx.GraphModule) -> dict[str, str]:
    """Return the name of the observer of each tensor, by the name of the node that makes it.

    In training it is a fake quantization.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    return {
        node.args[0].name: str(node.target)
        for node in prepared.graph.nodes
        if node.op == "call_module"
        and isinstance(modules[str(node.target)], Observer | FakeQuantizeBase)
        and isinstance(node.args[0], fx.Node)
    }


def fixed_range(decided: Any, scale: Tensor, zero_point: Tensor) -> FixedQParamsObserver:
    """Return an observer with a range that no longer changes.

    Args:
        decided: the observer or fake quantization that it replaces, for its integers.
        scale: of the whole tensor, one number.
        zero_point: the same.
    """
    return FixedQParamsObserver(  # type: ignore[no-untyped-call]
        float(scale),
        int(zero_point),
        quant_min=int(decided.quant_min),
        quant_max=int(decided.quant_max),
    )


def fix_ranges(prepared: fx.GraphModule) -> None:
    """Compute the range of every observer once and fix it, in place.

    The search in a histogram takes as long as a forward pass, and every later step needs the range.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    fixed: dict[nn.Module, FixedQParamsObserver] = {}
    for name in observer_names(prepared):
        observer: Any = modules[name]
        if isinstance(observer, FixedQParamsObserver):
            continue
        # One that is shared stays shared.
        if observer not in fixed:
            fixed[observer] = fixed_range(observer, *quantization_of(observer))
        prepared.set_submodule(name, fixed[observer])


def quantization_of(observer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the scales and zero points, each (1,) or (channels,), that an observer decided on."""
    assert isinstance(observer, Observer)
    scale, zero_point = observer.calculate_qparams()
    return scale.float(), zero_point.to(torch.int32)


class Rounding(nn.Module):
    """Rounds a tensor to the values that an observer's int8 type can take."""

    def __init__(self, observer: nn.Module) -> None:
        super().__init__()
        assert isinstance(observer, Observer)
        self.scale, self.zero_point = quantization_of(observer)
        self.limits = int(observer.quant_min), int(observer.quant_max)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape; a scale per channel counts for dimension 0."""
        if len(self.scale) > 1:
            return torch.fake_quantize_per_channel_affine(
                x, self.scale, self.zero_point, 0, *self.limits
            )
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *self.limits)


def without_observers(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a prepared model that computes in float and observes nothing."""
    graph = copy.deepcopy(prepared)
    for name in observer_names(graph):
        graph.set_submodule(name, nn.Identity())
    return graph


def with_rounding(prepared: fx.GraphModule) -> fx.GraphModule:
    """Return a float copy of a calibrated model that rounds as int8 will.

    Weights are rounded in the copy; every observer becomes a ``Rounding`` of its own.
    """
    graph = copy.deepcopy(prepared)
    for weighted in weighted_layers(graph):
        rounded = Rounding(observed_weight(weighted))(weighted.layer.weight)
        weighted.layer.weight = nn.Parameter(rounded, requires_grad=False)
    modules = dict(graph.named_modules(remove_duplicate=False))
    for name in observer_names(graph):
        graph.set_submodule(name, Rounding(modules[name]))
    return graph


def observed_weight(weighted: WeightedLayer) -> Any:
    """Return a new weight observer of a layer that has seen its weights."""
    qconfig: Any = weighted.called.qconfig
    observer = qconfig.weight()
    observer(weighted.layer.weight)
    return observer
