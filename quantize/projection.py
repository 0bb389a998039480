"""A smaller embedding by a projection: a PCA of embeddings, in or behind the last layer.

Without whitening, the directions are those of the largest second moments of embeddings of unit
length, about zero: these keep the products of embeddings best, so that cosines stay (Eckart and
Young, 1936). With it, the mean is subtracted first, and every direction is divided by its standard
deviation (Jegou and Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantize.fold import UnitLength
from quantize.trace_check import trace
from reid_edge.core.exporter import Projection

# Of the largest variance: directions with less hold rounding alone, which whitening would blow up.
_LEAST_VARIANCE = 1e-6


def fit_projection(embeddings: Tensor, dims: int, whiten: bool = False) -> Projection:
    """Fit a projection on embeddings of some images.

    Args:
        embeddings: (N, D), of any length; N and D are ``dims`` or more.
        dims: of the projected embeddings.
        whiten: give all directions the same variance.
    """
    unit = F.normalize(embeddings.double())
    mean = unit.mean(0) if whiten else torch.zeros(unit.shape[1], dtype=torch.float64)
    centred = unit - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    variances, directions = variances.flip(0)[:dims], directions.flip(1)[:, :dims]
    # The sign of an eigenvector is arbitrary: its largest part becomes positive.
    largest = directions.abs().argmax(0)
    weight = (directions * directions[largest, torch.arange(dims)].sign()).T
    if not whiten:
        return Projection(weight.float().numpy(), None)
    least = _LEAST_VARIANCE * float(variances[0])
    weight = weight / variances.clamp_min(least).sqrt()[:, None]
    return Projection(weight.float().numpy(), (-(weight @ mean)).float().numpy())


def apply_projection(embeddings: Tensor, projection: Projection | None) -> Tensor:
    """Return projected embeddings (N, dims), or all of them (N, D), of unit length, in float64."""
    unit = F.normalize(embeddings.double())
    if projection is None:
        return unit
    projected = unit @ torch.from_numpy(projection.weight).double().T
    if projection.bias is not None:
        projected = projected + torch.from_numpy(projection.bias).double()
    return F.normalize(projected)


def with_projection(model: nn.Module, projection: Projection) -> nn.Module:
    """Return a copy of a model whose embeddings are projected.

    If its last layer is linear and nothing is subtracted, that layer gets the projected weights. In
    other models a linear layer follows, with the embedding at unit length where a mean is
    subtracted.

    Args:
        model: a traceable model whose output is embeddings (N, D); it is left as it is.
        projection: of embeddings of unit length.

    Raises:
        QuantizeError: the model cannot be traced.
    """
    graph = trace(copy.deepcopy(model).cpu().eval())
    last = _last_linear(graph)
    if last is None or projection.bias is not None:
        return _Projected(graph, projection).eval()
    name, layer = last
    weight = torch.from_numpy(projection.weight).double()
    folded = nn.Linear(layer.in_features, len(weight), bias=layer.bias is not None)
    with torch.no_grad():
        folded.weight.copy_(weight @ layer.weight.double())
        if layer.bias is not None:
            folded.bias.copy_(weight @ layer.bias.double())
    parent, _, attribute = name.rpartition(".")
    setattr(graph.get_submodule(parent), attribute, folded)
    graph.recompile()
    return graph.eval()


def _last_linear(graph: fx.GraphModule) -> tuple[str, nn.Linear] | None:
    """Return the linear layer whose output is the embedding, if nothing else reads it."""
    (output,) = [node for node in graph.graph.nodes if node.op == "output"]
    source = output.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
        return None
    name = str(source.target)
    calls = sum(node.op == "call_module" and node.target == name for node in graph.graph.nodes)
    layer = graph.get_submodule(name)
    return (name, layer) if type(layer) is nn.Linear and calls == 1 else None


class _Projected(nn.Module):
    """A model, and a linear layer behind it."""

    def __init__(self, model: nn.Module, projection: Projection) -> None:
        super().__init__()
        bias = projection.bias
        self.model = model if bias is None else UnitLength(model)
        dims, whole = projection.weight.shape
        self.projection = nn.Linear(whole, dims, bias=bias is not None)
        with torch.no_grad():
            self.projection.weight.copy_(torch.from_numpy(projection.weight))
            if bias is not None:
                self.projection.bias.copy_(torch.from_numpy(np.asarray(bias)))

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (N, 3, H, W)."""
        embeddings: Tensor = self.projection(self.model(images))
        return embeddings
