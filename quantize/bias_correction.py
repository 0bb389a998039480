"""Biases that take back the mean error of int8.

Rounding weights and activations shifts the mean output of a channel. The shift is measured on
images and subtracted from the bias, layer after layer, so that each layer is measured behind
layers that are already corrected. Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.2, in its empirical form.
"""

import torch
from torch import Tensor, fx, nn

from quantize.prepared import weighted_layers
from quantize.rounding import with_rounding, without_observers


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
    """Evaluates a graph node by node, forgetting what is no longer needed."""

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
        """Return the means (C,) of what a layer gives before the ReLU it may be fused with."""
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
