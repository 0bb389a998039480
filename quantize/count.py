"""Report the layers that became int8, those that did not, and why."""

import copy
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import fx, nn

from quantize.call_sites import call_sites, is_inside
from quantize.measurements import FloatLayer, QuantizationReport
from quantize.pooling import FloatPooling

# Reason of a layer that the user named, or that is inside a named module.
ASKED_FOR = "asked for"
NO_INT8_FORM = "FX has no int8 form of it here"

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_INT8_PACKAGES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
# These compute nothing in evaluation mode, so the report leaves them out.
_TRIVIAL_MODULES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
_TRIVIAL_OPERATORS = frozenset(
    {"flatten", "view", "reshape", "size", "contiguous", torch.flatten, operator.getitem, getattr}
)


def quantization_report(
    model: nn.Module, quantized: fx.GraphModule, *, float_layers: Sequence[str] = ()
) -> QuantizationReport:
    """Compare an int8 model with the float model it was made from.

    Args:
        model: the float model; it is left as it is.
        quantized: what ``quantize_static`` made of it.
        float_layers: the modules that were left in float on purpose.

    Raises:
        QuantizeError: the float model cannot be traced.
    """
    sites = call_sites(copy.deepcopy(model).eval())
    modules = dict(model.named_modules())
    converted = dict(quantized.named_modules())
    # A call without a module of its own shares the original's.
    int8 = {
        site: _is_int8_module(converted.get(site, converted.get(module)))
        for site, module in sites.items()
    }
    convolutions = [s for s, module in sites.items() if isinstance(modules[module], _CONVOLUTIONS)]
    linear = [site for site, module in sites.items() if isinstance(modules[module], nn.Linear)]
    left_in_float: dict[str, FloatLayer] = {}
    for node in _float_nodes(quantized):
        layer = sites.get(str(node.target), str(node.target))
        if node.op != "call_module":
            name, kind = node.name, getattr(node.target, "__name__", str(node.target))
            reason = NO_INT8_FORM
        else:
            name, kind = layer, type(modules[layer]).__name__
            reason = NO_INT8_FORM
            if is_inside(layer, float_layers):
                reason = ASKED_FOR
            elif isinstance(quantized.get_submodule(str(node.target)), FloatPooling):
                reason = "int8 would keep the range of the map, too wide for its means"
        left_in_float.setdefault(name, FloatLayer(name, kind, reason))
    return QuantizationReport(
        convolutions=len({sites[site] for site in convolutions}),
        int8_convolutions=_everywhere_int8(convolutions, sites, int8),
        call_sites=len(convolutions),
        int8_call_sites=sum(int8[site] for site in convolutions),
        linear_layers=len({sites[site] for site in linear}),
        int8_linear_layers=_everywhere_int8(linear, sites, int8),
        left_in_float=tuple(left_in_float.values()),
        quantize_nodes=sum(_is_conversion(n, to="int8") for n in quantized.graph.nodes),
        dequantize_nodes=sum(_is_conversion(n, to="float") for n in quantized.graph.nodes),
    )


def _is_int8_module(module: nn.Module | None) -> bool:
    # torch.ao.nn.quantized, torch.ao.nn.intrinsic.quantized; fused float layers are in intrinsic.
    return type(module).__module__.startswith(_INT8_PACKAGES)


def _everywhere_int8(
    chosen: Sequence[str], sites: Mapping[str, str], int8: Mapping[str, bool]
) -> int:
    somewhere_float = {sites[site] for site in chosen if not int8[site]}
    return len({sites[site] for site in chosen} - somewhere_float)


def _float_nodes(quantized: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes that compute on float tensors, conversions and trivial ones excepted."""
    modules = dict(quantized.named_modules())
    is_float: dict[fx.Node, bool] = {}
    found = []
    for node in quantized.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            # Attributes are scales and zero points here; they do not make a value float.
            is_float[node] = node.op == "placeholder"
        elif _is_conversion(node, to="float"):
            is_float[node] = True
        else:
            module = modules[str(node.target)] if node.op == "call_module" else None
            # PyTorch prints an operator with its namespace: quantized.add.
            int8 = str(node.target).startswith("quantized.")
            if module is not None:
                int8 = _is_int8_module(module)
            if int8 or _is_conversion(node, to="int8"):
                is_float[node] = False
                continue
            is_float[node] = any(is_float[source] for source in node.all_input_nodes)
            trivial = node.target in _TRIVIAL_OPERATORS
            if module is not None:
                trivial = isinstance(module, _TRIVIAL_MODULES)
            if is_float[node] and not trivial:
                found.append(node)
    return found


def _is_conversion(node: fx.Node, *, to: str) -> bool:
    return node.target == ("dequantize" if to == "float" else torch.quantize_per_tensor)
