"""Parameters and multiply-accumulates of a model."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from reid_edge.core.macs import MacCounter, counting_macs
from reid_edge.core.modes import evaluating

MULTIPLYING_LAYERS = (_ConvNd, nn.Linear, nn.Bilinear)


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

    All operators that multiply count: convolutions of one to three dimensions, transposed ones,
    linear and bilinear layers, recurrent layers, attention, and matrix products that the forward
    pass calls as functions. Parameters of convolutions and linear layers that evaluation does not
    use (the classifier) are left out; those of normalisation layers count.

    Args:
        model: any module; it is run once in evaluation mode and its modes are restored.
        example: input (1, 3, H, W).

    Raises:
        ModelError: an operator multiplies that has no formula; the message names it and its module.
    """
    counter = _count(model, example)
    macs = sum(count for _, count in counter.calls)
    return ModelCost(called_parameters(model, called_layers(model, counter)), macs)


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Count parameters and multiply-accumulates of every convolution and linear layer.

    A layer that is called several times (OSNet's gate) counts its parameters once and its
    operations at every call. Layers that the forward pass does not call (a classifier in
    evaluation mode) are left out.

    Args:
        model: any module; it is run once in evaluation mode and its modes are restored.
        example: input (1, 3, H, W); the counts are for this size and one image.

    Returns:
        Costs by layer (``Conv2d`` and ``Linear``), in the order of the first calls.

    Raises:
        ModelError: as :func:`model_cost`.
    """
    layers = conv_and_linear_layers(model)
    return {n: cost for n, cost in module_costs(model, example).items() if n in layers}


def module_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Count parameters and multiply-accumulates of every module that multiplies.

    Args:
        model: any module; it is run once in evaluation mode and its modes are restored.
        example: input (1, 3, H, W); the counts are for this size and one image.

    Returns:
        Costs by name of the innermost module that calls the operators, in the order of the first
        calls: layers, attention, and modules whose forward pass calls ``torch.matmul``; the
        name of the model itself is empty. The parameters are those of the module alone, without
        the modules inside it.

    Raises:
        ModelError: as :func:`model_cost`.
    """
    macs: dict[str, int] = {}
    for name, count in _count(model, example).calls:
        macs[name] = macs.get(name, 0) + count
    return {
        name: LayerCost(
            sum(p.numel() for p in model.get_submodule(name).parameters(recurse=False)), count
        )
        for name, count in macs.items()
    }


def _count(model: nn.Module, example: Tensor) -> MacCounter:
    with evaluating(model), torch.no_grad(), counting_macs(model.named_modules()) as counter:
        model(example[:1])
    return counter


@contextmanager
def counted_macs(layers: Iterable[tuple[str, nn.Module]]) -> Iterator[list[tuple[str, int]]]:
    """Count the multiply-accumulates of every call of some layers.

    Args:
        layers: modules with their names; a name may occur several times.

    Yields:
        A list that has, after the block, (name, multiply-accumulates) of every operator that a
        layer called in it.
    """
    calls: list[tuple[str, int]] = []
    with counting_macs(layers) as counter:
        yield calls
    calls.extend((name, count) for name, count in counter.calls if name)


def called_layers(model: nn.Module, counter: MacCounter) -> set[str]:
    """Return the layers with weights that a counted run used.

    Attention reads the weights of its output layer without a call of that layer.
    """
    counted = {name for name, _ in counter.calls}
    return {
        name
        for name, layer in model.named_modules()
        if isinstance(layer, MULTIPLYING_LAYERS)
        and (
            name in counted
            or any(id(weight) in counter.read for weight in layer.parameters(recurse=False))
        )
    }


def called_parameters(model: nn.Module, called: Collection[str]) -> int:
    """Count the parameters of a model without those of layers that are not called.

    Args:
        model: any module.
        called: names of the convolutions, linear and bilinear layers that the forward pass calls.
    """
    layers = (n for n, module in model.named_modules() if isinstance(module, MULTIPLYING_LAYERS))
    unused = set(layers) - set(called)
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[0] not in unused
    )
