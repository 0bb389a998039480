"""Trace a model with ``torch.fx`` as it runs on images alone."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from reid_edge.core.errors import ReidError


def trace_one_input(
    model: nn.Module,
    *,
    error: type[ReidError],
    needed_by: str,
    explain: Callable[[Exception], str],
    change: Callable[[fx.Graph], None] = lambda _: None,
) -> fx.GraphModule:
    """Trace a model with its first argument as the only input.

    Further arguments of its forward pass keep their defaults, of whatever type these are. The
    graph shares the modules of the model.

    Args:
        model: in the mode (training or evaluation) in which to trace it.
        error: class of the errors.
        needed_by: end of the message for a model that needs a second input: who needs one input.
        explain: makes the message for a forward pass that cannot be traced from what it raised.
        change: changes the graph before it is compiled.

    Raises:
        ReidError: of class ``error``: the model needs more than one input, or its forward pass
            cannot be traced.
    """
    tracer = _OneInputTracer(error, needed_by)
    try:
        graph = tracer.trace(model)
        change(graph)
        return fx.GraphModule(tracer.root, graph, type(model).__name__)
    except error:
        raise
    except Exception as reason:  # a forward pass may raise anything on a value that is no tensor
        raise error(explain(reason)) from reason


class _OneInputTracer(fx.Tracer):
    def __init__(self, error: type[ReidError], needed_by: str) -> None:
        super().__init__()
        self._error = error
        self._needed_by = needed_by

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the forward function and its arguments: the model and the images."""
        del is_module, concrete_args
        model = self.root
        images, *others = inspect.signature(model.forward).parameters.values()
        for other in others:
            variadic = other.kind in (other.VAR_POSITIONAL, other.VAR_KEYWORD)
            if other.default is other.empty and not variadic:
                raise self._error(
                    f"{type(model).__name__} needs {other.name!r} besides images: {self._needed_by}"
                )
        annotation = None if images.annotation is images.empty else images.annotation
        proxy = self.create_proxy("placeholder", images.name, (), {}, type_expr=annotation)
        return root_fn, [model, proxy]
