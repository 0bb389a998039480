"""One module for each call: a module that is called several times is copied for further calls.

FX stores the range of an activation with the module that makes it. A module that is called on
several inputs (OSNet's gate on four streams) would get the range of one call, which is wrong for
the other calls. With a copy of the same weights, each call has its own range.
"""

import copy
import difflib
from collections import Counter
from collections.abc import Sequence

from torch import fx, nn

from quantize.trace_check import trace
from reid_edge.core.errors import QuantizeError


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
        model: any module that ``torch.fx`` can trace; it is traced in its present mode and left as
            it is. It should be in evaluation mode, because training would change the copies in
            different ways.

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


def _named_sites(graph: fx.GraphModule) -> dict[fx.Node, str]:
    taken = {name for name, _ in graph.named_modules()}
    calls: Counter[str] = Counter()
    sites: dict[fx.Node, str] = {}
    for node in graph.graph.nodes:
        if node.op != "call_module":
            continue
        module = str(node.target)
        calls[module] += 1
        site = module
        if calls[module] > 1:
            site = f"{module}_call{calls[module]}"
            while site in taken:
                site += "_"
            taken.add(site)
        sites[node] = site
    return sites


def check_layer_names(model: nn.Module, layers: Sequence[str]) -> None:
    """Raise unless every name is that of a module of the model.

    Raises:
        QuantizeError: one is not; the message names the nearest that is.
    """
    known = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise QuantizeError(f"the model has no layer {layer!r} to leave in float{hint}")


def is_inside(module: str, containers: Sequence[str]) -> bool:
    """Whether a module is one of the containers, or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in containers)
