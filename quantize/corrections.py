"""Corrections of a calibrated model before it is converted to int8.

The first correction raises weight scales that are so small that QNNPACK's bias overflows. QNNPACK
stores the bias as 32-bit integers in steps of (input scale x weight scale). After training and
pruning, some channels have weights near zero and therefore a tiny weight scale. Their bias does not
fit, and QNNPACK gives wrong outputs without a message. Such a channel gets the smallest scale for
which the bias fits. This is harmless, because its output is close to the bias.

The second correction removes the mean error of int8 with the biases. Rounding weights and
activations shifts the mean output of a channel. The shift is measured on images and subtracted from
the bias. Layers are corrected in order, so each one is measured behind corrected layers. Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
4.2, in its empirical form.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import QConfig

from quantize.prepared import (
    observed_weight,
    quantization_of,
    weighted_layers,
    with_rounding,
    without_observers,
)

# Half of what fits into 32 bits: the other half is for the sum of products.
LARGEST_BIAS = 2.0**30


def raise_weight_scales(prepared: fx.GraphModule) -> int:
    """Give each weight observer of a calibrated model a lower bound for its scales, in place.

    Returns:
        The number of channels (of layers, where weights are quantized per tensor) whose scale
        was raised.
    """
    raised = 0
    for weighted in weighted_layers(prepared):
        if weighted.layer.bias is None:
            continue
        qconfig: Any = weighted.called.qconfig
        scale, _ = quantization_of(observed_weight(weighted))
        input_scale, _ = quantization_of(weighted.input_observer)
        floor = weighted.layer.bias.detach().abs() / (input_scale * LARGEST_BIAS)
        floor = floor.clamp(min=torch.finfo(torch.float32).eps)
        floor = floor if len(scale) > 1 else floor.amax(0, keepdim=True)
        raised += int((scale < floor).sum())
        weight = partial(_bounded, qconfig.weight, floor)
        bounded: Any = QConfig(qconfig.activation, weight)  # type: ignore[no-untyped-call]
        weighted.called.qconfig = bounded
    return raised


def _bounded(make_observer: Any, floor: Tensor) -> Any:
    observer = make_observer()
    # PyTorch's lower bound is one number, but a tensor with a bound for each scale works too.
    observer.eps = floor
    return observer


@torch.no_grad()
def correct_bias(prepared: fx.GraphModule, images: Tensor) -> None:
    """Correct the biases of a calibrated model in place, before it is converted.

    Args:
        prepared: what ``prepare_fx`` made, with its observers calibrated.
        images: (N, C, H, W), all of one size; they go through the model in one piece.
    """
    layers = {weighted.node.name: weighted for weighted in weighted_layers(prepared)}
    exact = _Walk(without_observers(prepared), images)
    rounded = _Walk(with_rounding(prepared), images)
    for node in prepared.graph.nodes:
        weighted = layers.get(node.name)
        if weighted is not None:
            shift = rounded.channel_means(node) - exact.channel_means(node)
            for layer in (weighted.layer, _layer(rounded.module(node))):
                bias = torch.zeros_like(shift) if layer.bias is None else layer.bias
                layer.bias = nn.Parameter(bias - shift, requires_grad=False)
        exact.step(node)
        rounded.step(node)


class _Walk:
    """Evaluates a graph node by node and drops values after their last use."""

    def __init__(self, graph: fx.GraphModule, images: Tensor) -> None:
        self._interpreter = fx.Interpreter(graph)
        self._interpreter.args_iter = iter([images])
        self._nodes = {node.name: node for node in graph.graph.nodes}

    def step(self, node: fx.Node) -> None:
        own, values = self._nodes[node.name], self._interpreter.env
        values[own] = self._interpreter.run_node(own)
        for used in self._interpreter.user_to_last_uses.get(own, []):
            del values[used]

    def module(self, node: fx.Node) -> nn.Module:
        return self._interpreter.fetch_attr(str(node.target))  # type: ignore[no-any-return]

    def channel_means(self, node: fx.Node) -> Tensor:
        """Return the mean outputs (C,) of a layer, before a ReLU that it may be fused with."""
        source = self._nodes[node.name].args[0]
        assert isinstance(source, fx.Node)
        layer = _layer(self.module(node))
        output: Tensor = layer(self._interpreter.env[source])
        # (N, ..., C) from a linear layer, (N, C, H, W) from a convolution.
        linear = isinstance(layer, nn.Linear)
        return output.flatten(0, -2).mean(0) if linear else output.mean((0, 2, 3))


def _layer(module: nn.Module) -> nn.Conv2d | nn.Linear:
    layer = module[0] if isinstance(module, nn.Sequential) else module
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer
