"""Which layers have a width, and what each costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prune.modes import evaluating

Widths = Mapping[str, int]


def prunable_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers that have output channels of their own, by name, in module order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def channel_dimension(layer: nn.Module) -> int:
    """Return where a layer's output has its channels: a linear layer may work on tokens."""
    return -1 if isinstance(layer, nn.Linear) else 1


def output_width(layer: nn.Module) -> int:
    """Return the output channels of a convolution or linear layer."""
    return layer.out_channels if isinstance(layer, nn.Conv2d) else int(layer.out_features)  # type: ignore[arg-type]


def layer_widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution and linear layer."""
    return {name: output_width(layer) for name, layer in prunable_layers(model).items()}


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs.

    Attributes:
        parameters: weights and bias, each counted once.
        macs: multiply-accumulate operations for one image, all calls of the layer together.
    """

    parameters: int
    macs: int


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Count parameters and multiply-accumulates of every convolution and linear layer.

    A layer that is called several times (OSNet's gate) counts its parameters once and its
    operations at every call. Layers that the forward pass does not reach (a classifier in
    evaluation mode) are left out.

    Args:
        model: any module; it is run once in evaluation mode, and put back as it was.
        example: input (1, 3, H, W); the counts are for this size and one image.
    """
    macs: dict[str, int] = {}
    layers = prunable_layers(model)
    handles = [_count_calls(layer, name, macs) for name, layer in layers.items()]
    try:
        with evaluating(model), torch.inference_mode():
            model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: LayerCost(sum(p.numel() for p in layers[name].parameters()), count)
        for name, count in macs.items()
    }


def _count_calls(layer: nn.Module, name: str, macs: dict[str, int]) -> RemovableHandle:
    def hook(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights_per_output = module.weight[0].numel()  # type: ignore[index]
        macs[name] = macs.get(name, 0) + output[0].numel() * weights_per_output

    return layer.register_forward_hook(hook)


@dataclass(frozen=True)
class ModelCost:
    """What a model costs for one image, without what its forward pass does not reach."""

    parameters: int
    macs: int


def model_cost(model: nn.Module, example: Tensor) -> ModelCost:
    """Count the parameters and multiply-accumulates of the embedding network.

    Parameters of layers that evaluation does not run (the classifier) are left out, those of
    normalisation layers are in.

    Args:
        model: any module.
        example: input (1, 3, H, W).
    """
    costs = layer_costs(model, example)
    unused = set(prunable_layers(model)) - set(costs)
    parameters = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[0] not in unused
    )
    return ModelCost(parameters, sum(cost.macs for cost in costs.values()))
