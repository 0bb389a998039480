"""Check that the compact model computes what the masked one does; find the first difference."""

import copy
import reprlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from prune.layer_widths import Widths, channel_dimension, layer_widths
from prune.tracing import layers_behind, normalised_layers, trace
from reid_edge.core.cost import conv_and_linear_layers
from reid_edge.core.errors import PruneError, reason_of

TOLERANCE = 1e-4


def check_compact(
    full: nn.Module,
    compact: nn.Module,
    *,
    widths: Widths,
    kept: Mapping[str, Tensor],
    masked_output: object,
    check_input: Tensor,
) -> float:
    """Check that a surgery gave what was planned; return the largest difference to the masks.

    Args:
        full: the model before the cut.
        compact: the model after it.
        widths: planned output channels by layer.
        kept: indices of the channels of ``full`` that are left, by layer.
        masked_output: what the masked model gives for ``check_input``.
        check_input: input (N, 3, H, W).

    Returns:
        max |masked - compact| / max |masked|.

    Raises:
        PruneError: a width or an output is wrong; the message names the first wrong layer.
    """
    try:
        check_widths(compact, widths)
        return masked_difference(masked_output, compact, check_input)
    except PruneError as error:
        place = first_difference(full, compact, kept, check_input)
        raise PruneError(f"{error}; {place}" if place else str(error)) from error


def check_widths(model: nn.Module, planned: Widths) -> None:
    """Check that every layer has its planned width.

    NNI only logs what it cannot handle, so this check finds the error.

    Raises:
        PruneError: a layer has another width.
    """
    found = layer_widths(model)
    wrong = [name for name, width in planned.items() if found.get(name) != width]
    if wrong:
        name = wrong[0]
        raise PruneError(
            f"after the surgery {name!r} has {found.get(name)} channels where {planned[name]} were "
            f"planned ({len(wrong)} layers differ): this model's graph is not supported, or the "
            "example is so small that NNI takes a channel of a map of one pixel for unused"
        )


@torch.no_grad()
def masked_difference(masked_output: object, compact: nn.Module, check_input: Tensor) -> float:
    """Return max |masked - compact| / max |masked| on an input, in evaluation mode.

    For a model with several outputs (a tuple or a dictionary), this is the largest difference.

    Raises:
        PruneError: the compact model does not run, or the difference is above ``TOLERANCE``.
    """
    try:
        output = compact.eval()(check_input)
    except Exception as error:  # operations raise different errors for wrong sizes
        raise PruneError(
            f"the compact model does not run after the surgery: {reason_of(error)}"
        ) from error
    difference = largest_difference(output, masked_output)
    if not difference <= TOLERANCE:
        raise PruneError(
            f"masked and compact model differ by {difference:.1e} (at most {TOLERANCE:.0e} is "
            "rounding): the surgery removed or kept the wrong channels"
        )
    return difference


def largest_difference(output: object, expected: object) -> float:
    """Return max |output - expected| / max |expected|; of several tensors, the largest one.

    Raises:
        PruneError: there is no tensor, two tensors are of different shapes, or something else is
            not the same.
    """
    pairs = zip(tree_leaves(output), tree_leaves(expected), strict=True)
    differences = []
    for ours, theirs in pairs:
        if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
            if isinstance(ours, Tensor) or isinstance(theirs, Tensor) or ours != theirs:
                raise PruneError(
                    f"the compact model gives {reprlib.repr(ours)} where the masked one gives "
                    f"{reprlib.repr(theirs)}"
                )
            continue
        if ours.shape != theirs.shape:
            raise PruneError(
                f"the compact model's output is of shape {tuple(ours.shape)}, where the masked "
                f"one's is of {tuple(theirs.shape)}"
            )
        differences.append(float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12)))
    if not differences:
        raise PruneError("the model's output holds no tensor")
    # Unlike Python's, torch's maximum of numbers with a NaN is NaN.
    return float(torch.tensor(differences, dtype=torch.float64).max())


@torch.no_grad()
def first_difference(
    full: nn.Module, compact: nn.Module, kept: Mapping[str, Tensor], check_input: Tensor
) -> str | None:
    """Return a text that names the first layer with a wrong output, and the layers it reads.

    Args:
        full: the model before the cut.
        compact: the model after it.
        kept: indices of the channels of ``full`` that are left, by layer.
        check_input: input (N, 3, H, W).

    Returns:
        Text for a message; None if every layer is right, or the compact model has no graph.
    """
    # The full model with the lost channels at zero.
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
    modules = dict(masked.named_modules())
    expected = _Recorder(trace(masked))
    try:
        found = _Recorder(trace(compact.eval()))
    except PruneError:
        return None
    expected.run(check_input)
    try:
        found.run(check_input)
    except Exception:  # operations raise different errors for wrong sizes
        stopped = found.at
    else:
        stopped = None
    for name, output in found.outputs.items():
        node, wanted = found.nodes[name], expected.outputs.get(name)
        # None where the surgery changed the graph: there is nothing to compare with.
        if wanted is None:
            continue
        dimension = channel_dimension(modules[str(node.target)])
        wanted = wanted.index_select(dimension, kept[str(node.target)])
        same = output.shape == wanted.shape and bool(
            (output - wanted).abs().max() <= TOLERANCE * wanted.abs().max()
        )
        if not same:
            return _describe(node, modules)
    return None if stopped is None else _describe(stopped, modules)


def _silence(module: nn.Module, lost: Tensor) -> None:
    for parameter in (module.weight, module.bias):
        if isinstance(parameter, Tensor):
            parameter[lost] = 0


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
            # A copy, because a later in-place operation may overwrite it.
            self.outputs[n.name] = result.clone()
        return result
