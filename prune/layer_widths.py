"""Widths: the output channels of convolutions and linear layers."""

from collections.abc import Mapping

from torch import nn

from reid_edge.core.cost import conv_and_linear_layers

Widths = Mapping[str, int]


def channel_dimension(layer: nn.Module) -> int:
    """Return the dimension of a layer's output channels; a linear layer may work on tokens."""
    return -1 if isinstance(layer, nn.Linear) else 1


def output_width(layer: nn.Module) -> int:
    """Return the output channels of a convolution or linear layer."""
    return layer.out_channels if isinstance(layer, nn.Conv2d) else int(layer.out_features)  # type: ignore[arg-type]


def layer_widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution and linear layer."""
    return {name: output_width(layer) for name, layer in conv_and_linear_layers(model).items()}
