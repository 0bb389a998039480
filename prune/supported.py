"""Checks before a cut: the layers and operations that a cut cannot handle."""

import difflib
import itertools
from collections.abc import Iterator, Mapping

from torch import Tensor, fx, nn

from prune.layer_widths import Widths, layer_widths, output_width
from prune.tracing import NORMALISATIONS, layers_behind, makes_channels, trace
from reid_edge.core.errors import PruneError

# Layers with weights for each channel that NNI's surgery narrows correctly.
NARROWED = (
    nn.Conv2d, nn.Linear, nn.ConvTranspose2d, nn.PReLU,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d,
)  # fmt: skip
# Modules that mix or move channels.
MIXING_MODULES = (
    nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.PixelShuffle, nn.PixelUnshuffle,
    nn.ChannelShuffle, nn.GLU, nn.Fold,
)  # fmt: skip
MIXING_OPERATORS = (
    "group_norm", "layer_norm", "local_response_norm", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "glu",
)  # fmt: skip
DIVIDING_OPERATORS = ("chunk", "split", "tensor_split")


def check_supported(model: nn.Module, widths: Widths) -> fx.Graph:
    """Check that the layers of a plan can be cut, and that their readers can be narrowed.

    Unsupported modules may stay in the model if no cut channels reach them.

    Args:
        model: the model to prune.
        widths: planned output channels by layer.

    Returns:
        The trace of the model, see :func:`prune.tracing.trace`.

    Raises:
        PruneError: a planned layer does not exist, is of an unsupported kind, or is the model's
            output; or an unsupported layer reads its channels. The message names the layer.
    """
    modules = dict(model.named_modules())
    now = layer_widths(model)
    for name in widths:
        if name in modules and name not in now:
            kind = type(modules[name]).__name__
            raise PruneError(
                f"the plan names {name!r}, a {kind}: only Conv2d and Linear can be cut"
            )
        if name not in now:
            near = difflib.get_close_matches(name, now, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PruneError(f"the plan names {name!r}, which is no layer of the model{hint}")
    cut = {name for name, width in widths.items() if width < now[name]}
    graph = trace(model).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    for name in now:
        if name in cut and type(modules[name]) not in (nn.Conv2d, nn.Linear):
            raise PruneError(
                f"{name!r} is a {type(modules[name]).__name__}: only torch.nn's own Conv2d and "
                "Linear can be cut; leave the layer untouched"
            )
        if name in cut and name not in called:
            raise PruneError(
                f"{name!r} is not called in the forward pass, so its channels cannot be cut; leave "
                "the layer untouched"
            )
        # NNI does not change parametrised layers, which have other classes, unless they are cut.
        plain = type(modules[name]) in (nn.Conv2d, nn.Linear)
        if cut and name in called and plain and "weight" not in modules[name]._parameters:
            raise PruneError(
                f"{name!r} computes its weight from others (weight_norm, say), which the surgery "
                "does not know: make it a plain parameter first"
            )
    for node in graph.nodes:
        # Its own layer, and the layers whose channels it is combined with or reads.
        layers = [str(node.target)] if node.op == "call_module" else []
        layers += layers_behind(node, modules)
        for user in _first_combinations(node, modules) if node.op == "get_attr" else ():
            layers += layers_behind(user, modules)
        touched = next((layer for layer in layers if layer in cut), None)
        if touched and node.op == "output":
            raise PruneError(
                f"the channels of {touched!r} are the model's output: cutting them would change "
                "its size; leave the layer out of the plan"
            )
        obstacle = _obstacle(node, model, modules, touched) if touched else None
        if obstacle:
            raise PruneError(
                f"{obstacle}, so the channels of {touched!r} cannot be cut; leave the layer "
                "untouched"
            )
    return graph


def _obstacle(
    node: fx.Node, model: nn.Module, modules: Mapping[str, nn.Module], touched: str
) -> str | None:
    """Return why a node does not support fewer channels of a layer; None if it does."""
    name = str(node.target)
    if node.op == "get_attr":
        value: object = model
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, Tensor) and value.numel() > 1:
            return f"{name!r} is a tensor that the model uses outside of a layer"
    if node.op in ("call_function", "call_method"):
        called = getattr(node.target, "__name__", node.target)
        dimension = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
        # A linear layer may work on tokens (N, T, C), whose second dimension is no channel's.
        channels = (-1,) if isinstance(modules[touched], nn.Linear) else (1, -3)
        divides = called in DIVIDING_OPERATORS and dimension in channels
        if divides or called in MIXING_OPERATORS:
            return f"{called!r} does not treat channels one by one"
    if node.op != "call_module":
        return None
    module = modules[name]
    kind = type(module).__name__
    if isinstance(module, nn.Conv2d) and module.groups not in (
        1,
        module.in_channels if module.in_channels == module.out_channels else 1,
    ):
        return f"{name!r} is a convolution of {module.groups} groups that is not depthwise"
    if isinstance(module, nn.ConvTranspose2d) and module.groups > 1:
        return f"{name!r} is a transposed convolution of {module.groups} groups"
    if any(True for _ in module.parameters()) and not isinstance(module, NARROWED):
        return f"{name!r} is a {kind}, which cannot be narrowed"
    if isinstance(module, MIXING_MODULES):
        return f"{name!r} is a {kind}, which does not treat channels one by one"
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is None:
        return f"{name!r} is a {kind} without running statistics, which cannot be narrowed"
    behind = [output_width(modules[layer]) for layer in layers_behind(node, modules)]
    if isinstance(module, NORMALISATIONS) and behind and module.num_features not in behind:
        return f"{name!r} does not normalise the channels of one layer (a concatenation, say)"
    return None


def _first_combinations(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[fx.Node]:
    """Yield the nodes that combine a node's value, or a view of it, with a layer's output.

    The search stops at a layer that reads the value, because that layer makes new channels.
    """
    for user in node.users:
        if any(True for _ in layers_behind(user, modules)):
            yield user
        elif not (user.op == "call_module" and makes_channels(modules[str(user.target)])):
            yield from _first_combinations(user, modules)


def check_on_cpu(*given: nn.Module | Tensor) -> None:
    """Check that models and images are on the CPU.

    Raises:
        PruneError: one of them is on another device, which the message names.
    """
    for one in given:
        tensors = (
            itertools.chain(one.parameters(), one.buffers())
            if isinstance(one, nn.Module)
            else iter([one])
        )
        device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None)
        if device is not None:
            what = type(one).__name__ if isinstance(one, nn.Module) else "the input"
            raise PruneError(
                f"{what} is on {device}, and pruning works on the CPU: move model and images "
                "there with .cpu()"
            )
