"""Traces of models, and the relations of layers that NNI does not report."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from torch import fx, nn

from prune.in_place import read_what_was_written
from prune.layer_widths import output_width
from reid_edge.core.errors import PruneError, reason_of
from reid_edge.core.graph import trace_one_input
from reid_edge.core.modes import evaluating

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a model in evaluation mode with ``torch.fx``, as it runs on images alone.

    Further arguments of its forward pass have their defaults. Nodes that read a value after an
    in-place operation on it read the operation's result (see :mod:`prune.in_place`).

    Raises:
        PruneError: the model's forward pass depends on data, so it has no single graph, or needs
            more than one input.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    with evaluating(model):
        return trace_one_input(
            model,
            error=PruneError,
            needed_by="pruning needs a forward pass of one input",
            explain=lambda error: (
                f"{type(model).__name__} cannot be traced by torch.fx ({reason_of(error)}): "
                "pruning needs a forward pass without branches or loops that depend on its input"
            ),
            change=lambda graph: read_what_was_written(graph, modules),
        )


def normalised_layers(model: nn.Module, graph: fx.Graph | None = None) -> dict[str, str]:
    """Return, for every normalisation layer, a layer whose output channels are its channels.

    For a BatchNorm behind a convolution that is the convolution; for a normalisation behind a
    residual sum it is one of the summed layers.

    Args:
        model: any module that ``torch.fx`` traces.
        graph: of :func:`trace`, of the model or a copy; None: it is traced here.
    """
    graph = trace(model).graph if graph is None else graph
    modules = dict(model.named_modules())
    owners: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], NORMALISATIONS):
            behind = list(layers_behind(node, modules))
            channels = modules[node.target].num_features
            # This skips a mask of one channel that multiplies the map.
            fitting = (name for name in behind if output_width(modules[name]) == channels)
            if behind:
                owners[node.target] = next(fitting, behind[0])
    return owners


def shift_absorbers(graph: fx.GraphModule) -> dict[str, str]:
    """Return, by layer, the BatchNorm behind it that can absorb a shift.

    The BatchNorm must be behind every call of the layer and behind no other layer.
    """
    modules = dict(graph.named_modules())
    behind: dict[str, set[str | None]] = defaultdict(set)
    before: dict[str, set[str | None]] = defaultdict(set)
    for node in graph.graph.nodes:
        if node.op == "call_module":
            name, users = str(node.target), list(node.users)
            behind[name].add(_module_name(users[0]) if len(users) == 1 else None)
            before[name].update(_module_name(source) for source in node.all_input_nodes)
    return {
        layer: absorber
        for layer, (absorber, *others) in behind.items()
        if absorber is not None
        and not others
        and before[absorber] == {layer}
        and isinstance(modules[absorber], nn.BatchNorm1d | nn.BatchNorm2d)
        and modules[absorber].running_mean is not None
    }


def _module_name(node: fx.Node) -> str | None:
    """Return the name of the module that a node calls, or None if it calls none."""
    return str(node.target) if node.op == "call_module" else None


def layers_behind(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield the convolutions and linear layers whose outputs a node reads, depth first.

    Only operators that keep the channels (sums, normalisations, pooling) are passed. Layers of
    other kinds, such as ConvTranspose2d, make new channels, so the search stops there.

    Args:
        node: of a trace.
        modules: of the traced model, by name.
    """
    waiting, seen = [*reversed(node.all_input_nodes)], set[fx.Node]()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if source.op == "call_module" and isinstance(
            modules[str(source.target)], nn.Conv2d | nn.Linear
        ):
            yield str(source.target)
        elif not (source.op == "call_module" and makes_channels(modules[str(source.target)])):
            waiting.extend(reversed(source.all_input_nodes))


def makes_channels(module: nn.Module) -> bool:
    """Return whether a module's output has channels of its own, not those of its input."""
    return any(parameter.dim() > 1 for parameter in module.parameters())
