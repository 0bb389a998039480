"""What a cut cannot be carried through, named before anything is cut."""

import difflib
from collections.abc import Iterator, Mapping

from torch import Tensor, fx, nn

from prune.errors import PruneError
from prune.graph import layers_behind, trace
from prune.layers import Widths, layer_widths

# Layers with weights a channel that NNI's surgery narrows, and our masks agree with.
NARROWED = (
    nn.Conv2d, nn.Linear, nn.ConvTranspose2d, nn.PReLU,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d,
)  # fmt: skip


def check_supported(model: nn.Module, widths: Widths) -> None:
    """Check that the layers of a plan can be cut, and that what reads them can be narrowed.

    What cannot be pruned may stay in a model whose cut channels do not reach it.

    Args:
        model: the model to prune.
        widths: planned output channels by layer.

    Raises:
        PruneError: a planned layer is not there, of a kind that is not cut or the model's output,
            or channels would go that a layer reads which cannot be narrowed; the message names the
            layer.
    """
    modules = dict(model.named_modules())
    now = layer_widths(model)
    for name in widths:
        if name not in now:
            raise PruneError(_not_a_layer(name, modules, now))
    cut = {name for name, width in widths.items() if width < now[name]}
    for node in trace(model).graph.nodes:
        touched = next((layer for layer in _layers_at(node, modules) if layer in cut), None)
        if touched and node.op == "output":
            raise PruneError(
                f"the channels of {touched!r} are the model's output: cutting them would change "
                "its size; leave the layer out of the plan"
            )
        obstacle = _obstacle(node, model, modules)
        if obstacle and touched:
            raise PruneError(f"{obstacle}, so the channels of {touched!r} cannot be cut")


def _not_a_layer(name: str, modules: Mapping[str, nn.Module], now: Widths) -> str:
    if name in modules:
        kind = type(modules[name]).__name__
        return f"the plan names {name!r}, a {kind}: only Conv2d and Linear can be cut"
    near = difflib.get_close_matches(name, now, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the plan names {name!r}, which is no layer of the model{hint}"


def _obstacle(node: fx.Node, model: nn.Module, modules: Mapping[str, nn.Module]) -> str | None:
    """Say what is wrong with a node that has to keep its channels; None if nothing is."""
    name = str(node.target)
    if node.op == "get_attr":
        value = _attribute(model, name)
        if isinstance(value, Tensor) and value.numel() > 1:
            return f"{name!r} is a tensor that the model uses outside of a layer"
    if node.op != "call_module":
        return None
    module = modules[name]
    if isinstance(module, nn.Conv2d) and not _keeps_its_groups(module):
        return f"{name!r} is a convolution of {module.groups} groups that is not depthwise"
    if any(True for _ in module.parameters()) and not isinstance(module, NARROWED):
        return f"{name!r} is a {type(module).__name__}, which cannot be narrowed"
    return None


def _keeps_its_groups(conv: nn.Conv2d) -> bool:
    return conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels


def _layers_at(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """Yield a node's own layer, and those whose channels it or what it is combined with reads."""
    if node.op == "call_module":
        yield str(node.target)
    yield from layers_behind(node, modules)
    if node.op == "get_attr":
        for user in node.users:
            yield from layers_behind(user, modules)


def _attribute(model: nn.Module, name: str) -> object:
    value: object = model
    for part in name.split("."):
        value = getattr(value, part)
    return value
