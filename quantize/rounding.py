"""Float arithmetic on the values that int8 can take: what int8 costs, without an engine."""

import copy

import torch
from torch import Tensor, fx, nn

from quantize.prepared import Observer, observer_names, quantization_of, weighted_layers
from quantize.weight_scales import observed_weight


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
