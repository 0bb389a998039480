"""Fold BatchNorms into the layers in front of them, and take fused modules apart.

In evaluation mode, FX fuses a float layer and its ReLU into a sequence of the two. In training
mode, the sequence of a layer that stays in float may also contain its BatchNorm. A layer that is
trained with rounding is a single module that contains the BatchNorm.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.nn.intrinsic.modules.fused import _FusedModule
from torch.nn.modules.batchnorm import _BatchNorm

from quantize.trace_check import CHECKED, check_trace, trace

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded_copy(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return a copy of a model in evaluation mode as a graph with its BatchNorms folded.

    Modules that are called several times stay shared, so that a file holds their weights once.

    Args:
        model: any ``torch.fx`` traceable module; it is left as it is.
        example: (N, 3, H, W); on random images of its size the graph is compared with the model.

    Raises:
        QuantizeError: the model cannot be traced, or its trace computes something else.
    """
    evaluated = copy.deepcopy(model).cpu().eval()
    graph = trace(evaluated)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((CHECKED, *example.shape[1:]), generator=generator)
    check_trace(graph, evaluated, images)
    fold_batchnorm(graph)
    return graph


def fold_batchnorm(graph: fx.GraphModule, *, layers: Sequence[type[nn.Module]] = _LAYERS) -> int:
    """Fold every BatchNorm that follows a convolution or a linear layer into it, in place.

    FX alone turns linear layer, BatchNorm and ReLU into two int8 layers; with a folded BatchNorm
    they become one. A BatchNorm is not folded if it follows another kind of module, if the layer's
    output has other readers, or if the BatchNorm or the layer is called twice. The arithmetic is in
    double precision.

    Args:
        graph: a graph in evaluation mode, in which a linear layer's BatchNorm normalises its
            channels, see :func:`quantize.trace_check.check_trace`.

    Returns:
        The number of BatchNorms folded.
    """
    modules = dict(graph.named_modules())
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    folded = 0
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        if calls[str(source.target)] > 1 or calls[str(node.target)] > 1:
            continue
        layer, norm = modules[str(source.target)], modules[str(node.target)]
        # The exact types: a subclass may compute something else.
        if type(layer) in layers and type(norm) in _NORMS and isinstance(norm.running_mean, Tensor):
            fold_into(layer, norm)
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
            folded += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return folded


@torch.no_grad()
def fold_into(layer: nn.Module, norm: nn.Module) -> None:
    """Make a BatchNorm with statistics part of the layer in front of it, in place.

    The layer gets new parameters, because another call may share the former ones.
    """
    assert isinstance(layer, _LAYERS)
    assert isinstance(norm, _NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    gain = gamma / torch.sqrt(variance + norm.eps)
    weight = layer.weight.double() * gain.reshape(-1, *[1] * (layer.weight.dim() - 1))
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(
        (beta + (bias - mean) * gain).to(layer.weight.dtype), requires_grad=False
    )


def layer_and_norm(module: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return the layer that a module is or holds, and the BatchNorm fused with it, if any."""
    if _learns_with_rounding(module):
        return module, getattr(module, "bn", None)
    if not isinstance(module, _FusedModule):
        return module, None
    layer, *others = module.children()
    return layer, next((other for other in others if isinstance(other, _BatchNorm)), None)


def folded_layer(module: nn.Module) -> nn.Module:
    """Return a module's layer in evaluation mode: in float, with its BatchNorm folded into it.

    The module is left as it is.
    """
    if _learns_with_rounding(module):
        learning: Any = module
        return layer_and_norm(learning.to_float())[0]
    layer, norm = layer_and_norm(module)
    if norm is not None:
        layer = copy.deepcopy(layer)
        fold_into(layer, norm)
    return layer


def _learns_with_rounding(module: nn.Module) -> bool:
    return hasattr(module, "weight_fake_quant")


class UnitLength(nn.Module):
    """A model whose embeddings (N, D) are divided by their lengths."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (N, 3, H, W)."""
        embeddings: Tensor = self.model(images)
        lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        return embeddings / lengths.clamp_min(1e-12)
