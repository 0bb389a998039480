"""Questions about a model's graph that NNI does not answer."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx, nn

from prune.errors import PruneError
from prune.in_place import read_what_was_written
from prune.layers import output_width

# How a trace makes sure that an argument is at its default.
CHECKS = ("eq", "_assert", "_assert_is_none")
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a model in evaluation mode with ``torch.fx``, as it runs on pictures alone.

    Further arguments of its forward pass are at their defaults. What reads a value that an
    operation in place wrote over reads the operation's result (see :mod:`prune.in_place`).

    Raises:
        PruneError: the model's forward pass depends on data, so it has no single graph, or needs
            more than one input.
    """
    was_training = model.training
    try:
        graph = fx.symbolic_trace(model.eval(), concrete_args=_defaults(model))
    except (fx.proxy.TraceError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PruneError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason}): "
            "pruning needs a forward pass without data-dependent branches"
        ) from error
    finally:
        model.train(was_training)
    _take_out_defaults(graph, model)
    read_what_was_written(graph.graph, dict(graph.named_modules()))
    graph.recompile()
    return graph


def _defaults(model: nn.Module) -> dict[str, Any] | None:
    """Return the arguments that a trace is made for; None where there are none."""
    _pictures, *parameters = inspect.signature(model.forward).parameters.values()
    found = {
        parameter.name: parameter.default
        for parameter in parameters
        if isinstance(parameter.default, bool | int | float | str | None)
    }
    return found or None


def _take_out_defaults(graph: fx.GraphModule, model: nn.Module) -> None:
    """Take out the inputs that a trace was specialised for, and the checks that they are those."""
    _pictures, *others = (node for node in graph.graph.nodes if node.op == "placeholder")
    for node in others:
        checks = _users(node)
        if any(getattr(check.target, "__name__", "") not in CHECKS for check in checks):
            raise PruneError(
                f"{type(model).__name__} needs {node.target!r} besides pictures: pruning needs a "
                "forward pass of one input"
            )
        for unneeded in (*reversed(checks), node):
            graph.graph.erase_node(unneeded)


def _users(node: fx.Node) -> list[fx.Node]:
    """Return the nodes that depend on a node, each behind those that it depends on."""
    found = dict[fx.Node, None]()
    for user in node.users:
        found |= dict.fromkeys([user, *_users(user)])
    return sorted(found, key=list(node.graph.nodes).index)


def normalised_layers(model: nn.Module) -> dict[str, str]:
    """Return, for every normalisation layer, a layer whose output channels are its channels.

    For a BatchNorm behind a convolution that is the convolution; for a normalisation behind a
    residual sum it is one of the summed layers.
    """
    graph = trace(model).graph
    modules = dict(model.named_modules())
    owners: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], NORMALISATIONS):
            behind = list(layers_behind(node, modules))
            channels = modules[node.target].num_features
            # Not a mask of one channel that a map was multiplied with.
            fitting = (name for name in behind if output_width(modules[name]) == channels)
            if behind:
                owners[node.target] = next(fitting, behind[0])
    return owners


def layers_behind(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield the convolutions and linear layers whose outputs a node reads, depth first.

    Only operators that keep the channels (sums, normalisations, pooling) lie between; behind a
    layer of another kind, such as a ConvTranspose2d, are channels of its own.

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
