"""Trace a model as it runs on images alone, and check what the trace computes."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from reid_edge.core.errors import QuantizeError
from reid_edge.core.graph import trace_one_input

CHECKED = 2  # images on which a trace is compared with its model
TOLERANCE = 1e-4


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the graph of a model that is called with images alone; it shares the modules.

    Further arguments of the forward pass have their defaults.

    Raises:
        QuantizeError: the model cannot be traced, or needs more than one input.
    """

    def explain(error: Exception) -> str:
        reason = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
        return f"{type(model).__name__} cannot be traced by torch.fx: {reason}"

    return trace_one_input(
        model,
        error=QuantizeError,
        needed_by="int8 and files for deployment need a forward pass of one input",
        explain=explain,
    )


@torch.no_grad()
def check_trace(graph: fx.GraphModule, model: nn.Module, images: Tensor) -> None:
    """Check that a model's graph computes what the model does.

    Args:
        graph: that ``trace`` made of the model, or one that should give the same.
        model: on the CPU, in evaluation mode.
        images: (N, 3, H, W); two of them are used.

    Raises:
        QuantizeError: it does not, or would not with folded BatchNorms, or the model's output is
            not finite.
    """
    few = images[:CHECKED]
    # Copies, because a forward pass may overwrite its input.
    found = tree_leaves(_NormalisingVectors(graph).run(few.clone()))
    expected = tree_leaves(model(few.clone()))
    if not all(torch.isfinite(value).all() for value in expected if isinstance(value, Tensor)):
        raise QuantizeError(
            f"the output of {type(model).__name__} is not finite on the images; its weights are "
            "damaged, or its training diverged"
        )
    same = len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=False):
        if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor):
            same = same and bool(ours == theirs)
        elif ours.shape != theirs.shape:
            same = False
        elif not torch.equal(ours, theirs):
            close = (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()
            same = same and bool(close)
    if not same:
        raise QuantizeError(
            f"{type(model).__name__} and its torch.fx trace give different outputs; does its "
            "forward pass change a tensor in place (+=, relu_) that it reads again under another "
            "name? There, make a new one (y = y + x instead of y += x)"
        )


class _NormalisingVectors(fx.Interpreter):
    """Runs a graph, and checks that BatchNorms can be folded into linear layers."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors in one line

    def run_node(self, n: fx.Node) -> Any:
        """Return the value of a node."""
        value: Any = super().run_node(n)
        source: Any = n.args[0] if n.args else None
        if self._called(n, nn.BatchNorm1d) and self._called(source, nn.Linear) and value.dim() > 2:
            raise QuantizeError(
                f"{n.target!r} normalises {value.shape[1]} tokens, not the {value.shape[2]} "
                f"channels of {source.target!r}: it cannot become a part of that layer"
            )
        return value

    def _called(self, node: Any, kind: type[nn.Module]) -> bool:
        is_call = isinstance(node, fx.Node) and node.op == "call_module"
        return is_call and isinstance(self.fetch_attr(str(node.target)), kind)
