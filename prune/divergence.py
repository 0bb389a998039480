"""Where a compact model that failed its check departs from the model that was masked."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from prune.layers import channel_dimension
from prune.tracing import layers_behind, normalised_layers, trace
from prune.verify import TOLERANCE
from reid_edge.core.cost import conv_and_linear_layers
from reid_edge.core.errors import PruneError


@torch.no_grad()
def first_difference(
    full: nn.Module, compact: nn.Module, kept: Mapping[str, Tensor], check_input: Tensor
) -> str | None:
    """Say which layer is the first one whose output is not what it should be, and what it reads.

    Args:
        full: the model before the cut.
        compact: the model after it.
        kept: indices of the channels of ``full`` that are left, by layer.
        check_input: input (N, 3, H, W).

    Returns:
        Words for a message; None if every layer is right, or the compact model has no graph.
    """
    masked = _with_lost_channels_at_zero(full, kept)
    modules = dict(masked.named_modules())
    expected, found = _Recorder(trace(masked)), _record(compact)
    if found is None:
        return None
    expected.run(check_input)
    try:
        found.run(check_input)
    except Exception:  # whatever an operation says of sizes that do not fit
        stopped = found.at
    else:
        stopped = None
    for name, output in found.outputs.items():
        node, wanted = found.nodes[name], expected.outputs.get(name)
        # None where the surgery changed the graph: there is nothing to compare with.
        if wanted is not None and not _agree(output, wanted, str(node.target), kept, modules):
            return _describe(node, modules)
    return None if stopped is None else _describe(stopped, modules)


def _with_lost_channels_at_zero(full: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    masked = copy.deepcopy(full).cpu().eval()
    lost: dict[str, Tensor] = {}
    for name, layer in conv_and_linear_layers(masked).items():
        lost[name] = torch.ones(len(layer.weight), dtype=torch.bool)
        lost[name][kept[name]] = False
        _silence(layer, lost[name])
    for name, owner in normalised_layers(masked).items():
        norm = masked.get_submodule(name)
        if getattr(norm, "num_features", None) == len(lost[owner]):
            _silence(norm, lost[owner])
    return masked


def _silence(module: nn.Module, lost: Tensor) -> None:
    for parameter in (module.weight, module.bias):
        if isinstance(parameter, Tensor):
            parameter[lost] = 0


def _record(compact: nn.Module) -> "_Recorder | None":
    try:
        return _Recorder(trace(compact.eval()))
    except PruneError:
        return None


def _agree(
    output: Tensor,
    expected: Tensor,
    layer: str,
    kept: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
) -> bool:
    wanted = expected.index_select(channel_dimension(modules[layer]), kept[layer])
    if output.shape != wanted.shape:
        return False
    return bool((output - wanted).abs().max() <= TOLERANCE * wanted.abs().max())


def _describe(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    behind = ", ".join(repr(name) for name in dict.fromkeys(layers_behind(node, modules)))
    return f"the first difference is at {what!r}, behind {behind or 'the input'}"


class _Recorder(fx.Interpreter):
    """Runs a graph, and keeps what convolutions and linear layers give."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.outputs: dict[str, Tensor] = {}
        self.nodes = {node.name: node for node in graph.graph.nodes}
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        """Run a node."""
        self.at = n
        result = super().run_node(n)
        if n.op == "call_module" and isinstance(
            self.fetch_attr(str(n.target)), nn.Conv2d | nn.Linear
        ):
            # What is in place behind it writes over it.
            self.outputs[n.name] = result.clone()
        return result
