"""The cost of a model at other widths, without building it."""

from dataclasses import dataclass

from torch import Tensor, nn

from prune.layer_widths import Widths, layer_widths
from prune.readers import layer_inputs, owners_read
from prune.tracing import layers_behind, normalised_layers, trace
from reid_edge.core.cost import ModelCost, model_cost, module_costs


@dataclass(frozen=True)
class _Layer:
    """A module that multiplies, at full width.

    Attributes:
        macs: multiply-accumulates for one image.
        weights: number of those that depend on widths.
        bias: number of bias values that depend on widths.
        inputs: layers whose output channels it reads; empty if it reads the image, or works on
            each channel alone.
        other_inputs: channels that it reads beside them, and that are never cut.
    """

    macs: int
    weights: int
    bias: int
    inputs: tuple[str, ...]
    other_inputs: int


class CostModel:
    """Parameters and multiply-accumulates as a function of the widths.

    Args:
        model: at full width; any module that ``torch.fx`` traces.
        example: input (1, 3, H, W) for whose size operations are counted.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        graph = trace(model).graph
        read = layer_inputs(model, graph)
        inputs = {name: owners_read(layer, given) for name, layer, given in read}
        modules = dict(model.named_modules())
        self._full = layer_widths(model)
        self._layers = {
            name: _Layer(
                cost.macs,
                modules[name].weight.numel() if name in inputs or name in self._full else 0,
                self._full[name] if name in self._full and modules[name].bias is not None else 0,
                # A layer of a subclass is no node of the trace; it is never cut.
                *inputs.get(name, ((), 0)),
            )
            for name, cost in module_costs(model, example).items()
        }
        # (layer whose channels are normalised, number of parameters) of each normalisation.
        self._normalisations = [
            (owner, sum(p.numel() for p in model.get_submodule(name).parameters()))
            for name, owner in normalised_layers(model, graph).items()
        ]
        counted = self._count(self._full).parameters
        # Parameters that do not depend on widths, such as the weight of a PReLU for all channels.
        self._fixed = model_cost(model, example).parameters - counted

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the convolutions and linear layers that the forward pass reaches, in its order."""
        return tuple(name for name in self._layers if name in self._full)

    def cost(self, widths: Widths) -> ModelCost:
        """Return the cost of the model at some widths.

        Args:
            widths: output channels by layer; layers that are not named keep theirs.
        """
        counted = self._count({**self._full, **widths})
        return ModelCost(counted.parameters + self._fixed, counted.macs)

    def _count(self, widths: Widths) -> ModelCost:
        parameters = macs = 0.0
        for name, layer in self._layers.items():
            outputs = widths[name] / self._full[name] if name in self._full else 1.0
            share = outputs
            if layer.inputs:
                full = layer.other_inputs + sum(self._full[owner] for owner in layer.inputs)
                now = layer.other_inputs + sum(widths[owner] for owner in layer.inputs)
                share *= now / full
            macs += layer.macs * share
            parameters += layer.weights * share + layer.bias * outputs
        for owner, count in self._normalisations:
            parameters += count * widths[owner] / self._full[owner]
        return ModelCost(round(parameters), round(macs))


def output_layers(model: nn.Module) -> set[str]:
    """Return the layers whose channels are the model's output; cutting them changes its size."""
    graph, modules = trace(model).graph, dict(model.named_modules())
    (output,) = (node for node in graph.nodes if node.op == "output")
    return set(layers_behind(output, modules))
