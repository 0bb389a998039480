"""Parameters and multiply-accumulates of a model."""

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reid_edge.core.modes import evaluating


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs.

    Attributes:
        parameters: weights and bias, each counted once.
        macs: multiply-accumulate operations for one image, all calls of the layer together.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelCost:
    """What a model costs for one image, without the layers that its forward pass does not call."""

    parameters: int
    macs: int


def conv_and_linear_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the 2-d convolutions and linear layers by name, in module order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def model_cost(model: nn.Module, example: Tensor) -> ModelCost:
    """Count the parameters and multiply-accumulates of a model in evaluation mode.

    Parameters of convolutions and linear layers that evaluation does not call (the classifier) are
    left out; those of normalisation layers count.

    Args:
        model: any module; it is run once in evaluation mode and its modes are restored.
        example: input (1, 3, H, W).
    """
    costs = layer_costs(model, example)
    return ModelCost(called_parameters(model, costs), sum(cost.macs for cost in costs.values()))


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Count parameters and multiply-accumulates of every convolution and linear layer.

    A layer that is called several times (OSNet's gate) counts its parameters once and its
    operations at every call. Layers that the forward pass does not call (a classifier in
    evaluation mode) are left out.

    Args:
        model: any module; it is run once in evaluation mode and its modes are restored.
        example: input (1, 3, H, W); the counts are for this size and one image.

    Returns:
        Costs by layer, in the order of the first calls.
    """
    layers = conv_and_linear_layers(model)
    with (
        evaluating(model),
        torch.inference_mode(),
        counted_macs(layers.items()) as calls,
    ):
        model(example[:1])
    macs: dict[str, int] = {}
    for name, count in calls:
        macs[name] = macs.get(name, 0) + count
    return {
        name: LayerCost(sum(p.numel() for p in layers[name].parameters()), count)
        for name, count in macs.items()
    }


@contextmanager
def counted_macs(layers: Iterable[tuple[str, nn.Module]]) -> Iterator[list[tuple[str, int]]]:
    """Count the multiply-accumulates of every call of some layers for one image.

    Args:
        layers: convolutions and linear layers with their names; a name may occur several times.

    Yields:
        A list that grows by (name, multiply-accumulates) at every call of a layer in the block.
    """
    calls: list[tuple[str, int]] = []

    def count(name: str, layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights_per_output = layer.weight[0].numel()  # type: ignore[index]
        # The batch may be empty.
        calls.append((name, math.prod(output.shape[1:]) * weights_per_output))

    handles = [layer.register_forward_hook(partial(count, name)) for name, layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def called_parameters(model: nn.Module, called: Collection[str]) -> int:
    """Count the parameters of a model without those of layers that are not called.

    Args:
        model: any module.
        called: names of the convolutions and linear layers that the forward pass calls.
    """
    unused = conv_and_linear_layers(model).keys() - set(called)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[0] not in unused
    )
