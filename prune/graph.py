"""Questions about a model's graph that NNI does not answer."""

from collections.abc import Iterator, Mapping

from torch import fx, nn

from prune.errors import PruneError

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a model in evaluation mode with ``torch.fx``.

    Raises:
        PruneError: the model's forward pass depends on data, so it has no single graph.
    """
    was_training = model.training
    try:
        return fx.symbolic_trace(model.eval())
    except (fx.proxy.TraceError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PruneError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason}): "
            "pruning needs a forward pass without data-dependent branches"
        ) from error
    finally:
        model.train(was_training)


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
            owner = next(layers_behind(node, modules), None)
            if owner is not None:
                owners[node.target] = owner
    return owners


def layers_behind(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield the convolutions and linear layers whose outputs a node reads, depth first.

    Only operators that are no such layer themselves (sums, normalisations, pooling) lie between.

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
        else:
            waiting.extend(reversed(source.all_input_nodes))
