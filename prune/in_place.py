"""Operations that write over their input, in a graph whose values are read in another order."""

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
    """Let what stands behind an operation in place read its result, not what it wrote over.

    A trace names the overwritten value where the forward pass does. In the order of the forward
    pass both are one tensor; to whoever asks where a value is from they are not, and an operation
    that is written as a statement (``x.relu_()``) would have no reader at all.

    Args:
        graph: of a trace; its nodes are changed.
        modules: of the traced model, by name.
    """
    position = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        written = _written_over(node, modules)
        if written is not None:
            behind = [user for user in written.users if position[user] > position[node]]
            for user in behind:
                user.replace_input_with(written, node)


def _written_over(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    """Return the node whose value an operation writes over; None of one that makes a new value."""
    if node.op == "call_module":
        in_place = getattr(modules[str(node.target)], INPLACE, False) is True
    elif node.op in ("call_function", "call_method"):
        in_place = bool(node.kwargs.get(INPLACE)) or _is_in_place(node.target)
    else:
        return None
    written = node.args[0] if node.args else node.kwargs.get("input")
    return written if in_place and isinstance(written, fx.Node) else None


def _is_in_place(operation: Any) -> bool:
    name = operation if isinstance(operation, str) else getattr(operation, "__name__", "")
    # Those of Python's that end so, as operator.and_, are words of the language.
    return name.endswith("_") and not name.endswith("__") and not hasattr(operator, name)


@contextmanager
def out_of_place(*graphs: fx.GraphModule) -> Iterator[None]:
    """Let no operation of a graph write over its input.

    Values are computed when they are asked for, so an operation that comes first in the forward
    pass may read its input after one that comes later and would have changed it.

    Args:
        graphs: are changed; the modules in them are in place again afterwards.

    Raises:
        PruneError: an operation works in place only.
    """
    for graph in graphs:
        for node in graph.graph.nodes:
            if node.kwargs.get(INPLACE):
                node.kwargs = {**node.kwargs, INPLACE: False}
            if node.op in ("call_function", "call_method"):
                node.target = _out_of_place(node.target)
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


def _out_of_place(operation: Any) -> Any:
    """Return the operation that gives what one in place gives; others as they are.

    Raises:
        PruneError: an operation works in place only, as ``zero_`` does.
    """
    # A trace has x + y for x += y.
    if not _is_in_place(operation) or operation == "requires_grad_":
        return operation
    name = operation if isinstance(operation, str) else operation.__name__
    plain = name.removesuffix("_")
    if isinstance(operation, str):
        found = plain if callable(getattr(Tensor, plain, None)) else None
    else:
        found = getattr(torch, plain, None) or getattr(F, plain, None)
    if found is None:
        raise PruneError(
            f"the weights cannot be solved for: the forward pass calls {name!r}, which works in "
            "place only; make a new tensor there"
        )
    return found
