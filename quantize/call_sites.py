"""One module a call: what is called several times gets a copy for every further call.

FX keeps the ranges of an activation with the module that makes it. A module that is called on
several inputs (OSNet's gate, called on four streams) would get one range for all of them: that of
one call, wrong for the others. Copies with the same weights give each call its own.
"""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from quantize.errors import QuantizeError

CHECKED = 2  # pictures on which a trace is compared with its model
TOLERANCE = 1e-4


def call_sites(model: nn.Module) -> dict[str, str]:
    """Return, in order of execution, the name of each call and of the module that it calls.

    The first call of ``a.b`` keeps its name, the second is ``a.b_call2``, the third
    ``a.b_call3``; where the model has a module of that name already, underscores are added. Only
    leaves count, that is, layers of ``torch.nn``. Modules that are never called are absent.

    Raises:
        QuantizeError: the model cannot be traced.
    """
    return {site: str(node.target) for node, site in _named_sites(trace(model)).items()}


def split_call_sites(model: nn.Module) -> fx.GraphModule:
    """Return a copy of a model in which no module is called twice.

    Args:
        model: any module that ``torch.fx`` can trace, traced in the mode (training or evaluation)
            that it is in; it is left as it is. Meant for evaluation mode: in training mode the
            copies would drift apart.

    Returns:
        A graph module without parameters in common with ``model``, whose outputs equal those of
        ``model`` bit for bit. Its layers have the names given by ``call_sites``.

    Raises:
        QuantizeError: the model cannot be traced.
    """
    graph = copy.deepcopy(trace(model))
    for node, site in _named_sites(graph).items():
        if site != node.target:
            graph.add_submodule(site, copy.deepcopy(graph.get_submodule(str(node.target))))
            node.target = site
    graph.recompile()
    return graph


def trace(model: nn.Module) -> fx.GraphModule:
    """Return a model, as it runs on pictures alone, as a graph, which shares its modules.

    Further arguments of its forward pass are at their defaults.

    Raises:
        QuantizeError: the model cannot be traced, or needs more than one input.
    """
    try:
        tracer = _PicturesAlone()
        graph = tracer.trace(model)
        return fx.GraphModule(tracer.root, graph, type(model).__name__)
    except QuantizeError:
        raise
    except Exception as error:  # whatever a forward pass does with what is no tensor
        reason = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
        raise QuantizeError(
            f"{type(model).__name__} cannot be traced by torch.fx: {reason}"
        ) from error


class _PicturesAlone(fx.Tracer):
    """Calls a forward pass with its first argument alone, whatever the others' defaults are."""

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the forward function and its arguments: the model, and the pictures."""
        del is_module, concrete_args
        model = self.root
        pictures, *others = inspect.signature(model.forward).parameters.values()
        for other in others:
            if other.default is other.empty and other.kind not in (
                other.VAR_POSITIONAL,
                other.VAR_KEYWORD,
            ):
                raise QuantizeError(
                    f"{type(model).__name__} needs {other.name!r} besides pictures: int8 and files "
                    "for deployment need a forward pass of one input"
                )
        annotation = None if pictures.annotation is pictures.empty else pictures.annotation
        proxy = self.create_proxy("placeholder", pictures.name, (), {}, type_expr=annotation)
        return root_fn, [model, proxy]


@torch.no_grad()
def check_trace(graph: fx.GraphModule, model: nn.Module, pictures: Tensor) -> None:
    """Check that a model's graph computes what the model does.

    Args:
        graph: that ``trace`` made of the model, or one that should give the same.
        model: on the CPU, in evaluation mode.
        pictures: (N, 3, H, W); two of them are looked at.

    Raises:
        QuantizeError: it does not; what is made of the graph would be another model.
    """
    few = pictures[:CHECKED]
    # Copies: a forward pass may write over what it is given.
    found, expected = tree_leaves(graph(few.clone())), tree_leaves(model(few.clone()))
    if len(found) != len(expected) or not all(map(_same, found, expected)):
        raise QuantizeError(
            f"{type(model).__name__} and its torch.fx trace give different outputs; does its "
            "forward pass change a tensor in place (+=, relu_) that it reads again under another "
            "name? There, make a new one (y = y + x instead of y += x)"
        )


def _same(found: object, expected: object) -> bool:
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return found == expected
    if found.shape != expected.shape:
        return False
    if torch.equal(found, expected):
        return True
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _named_sites(graph: fx.GraphModule) -> dict[fx.Node, str]:
    taken = {name for name, _ in graph.named_modules()}
    calls: Counter[str] = Counter()
    sites: dict[fx.Node, str] = {}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        module = str(node.target)
        calls[module] += 1
        sites[node] = module if calls[module] == 1 else _free_name(module, calls[module], taken)
    return sites


def _free_name(module: str, call: int, taken: set[str]) -> str:
    name = f"{module}_call{call}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name
