"""In-place operations in a graph whose nodes are evaluated in another order."""

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from reid_edge.core.errors import PruneError

INPLACE = "inplace"


def read_what_was_written(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Make the nodes after an in-place operation read its result, not the overwritten value.

    A trace refers to the overwritten value, as the forward pass does. In the forward pass both are
    the same tensor, but in the graph they are two nodes. Without this change, an operation that is
    written as a statement (``x.relu_()``) has no reader in the graph.

    Args:
        graph: of a trace; its nodes are changed.
        modules: of the traced model, by name.
    """
    position = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op == "call_module":
            in_place = getattr(modules[str(node.target)], INPLACE, False) is True
        elif node.op in ("call_function", "call_method"):
            in_place = bool(node.kwargs.get(INPLACE)) or _is_in_place(node.target)
        else:
            continue
        written = node.args[0] if node.args else node.kwargs.get("input")
        if in_place and isinstance(written, fx.Node):
            behind = [user for user in written.users if position[user] > position[node]]
            for user in behind:
                user.replace_input_with(written, node)


def _is_in_place(operation: Any) -> bool:
    name = operation if isinstance(operation, str) else getattr(operation, "__name__", "")
    # Operators such as operator.and_ end with an underscore because "and" is a keyword.
    return name.endswith("_") and not name.endswith("__") and not hasattr(operator, name)


@contextmanager
def out_of_place(*graphs: fx.GraphModule) -> Iterator[None]:
    """Replace the in-place operations of graphs by those that return a new tensor.

    Values are computed on demand. An operation may therefore read its input after a later operation
    of the forward pass, which must not have changed that input.

    Args:
        graphs: they are changed; their modules work in place again afterwards.

    Raises:
        PruneError: an operation works in place only.
    """
    for graph in graphs:
        for node in graph.graph.nodes:
            if node.kwargs.get(INPLACE):
                node.kwargs = {**node.kwargs, INPLACE: False}
            # A trace has x + y for x += y, so only names with an underscore are left.
            operation = node.target
            is_call = node.op in ("call_function", "call_method")
            if not is_call or not _is_in_place(operation) or operation == "requires_grad_":
                continue
            name = operation if isinstance(operation, str) else operation.__name__
            plain = name.removesuffix("_")
            if isinstance(operation, str):
                node.target = plain if callable(getattr(Tensor, plain, None)) else None
            else:
                node.target = getattr(torch, plain, None) or getattr(F, plain, None)
            if node.target is None:
                raise PruneError(
                    f"the weights cannot be solved for: the forward pass calls {name!r}, which "
                    "works in place only; make a new tensor there"
                )
    modules = {
        module: None
        for graph in graphs
        for module in graph.modules()
        if getattr(module, INPLACE, False) is True
    }
    for module in modules:
        setattr(module, INPLACE, False)
    try:
        yield
    finally:
        for module in modules:
            setattr(module, INPLACE, True)
