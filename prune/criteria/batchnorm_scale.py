"""Criterion ``batchnorm_scale``: the scale that the BatchNorm behind a layer gives a channel.

Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune.criteria.criterion import Criterion, ScoreRequest, of_mean_one
from prune.criteria.l2 import l2_norms

if TYPE_CHECKING:
    from torch import Tensor


def scales(request: ScoreRequest) -> dict[str, Tensor]:
    """Return |scale| of every channel (C,), by layer, with a mean of one.

    Within a group, layers without a BatchNorm take the mean of those that have one; layers of
    groups without any take their L2 norms.
    """
    import torch
    from torch import nn

    from prune.tracing import normalised_layers

    found: dict[str, Tensor] = {}
    for normalisation, layer in normalised_layers(request.model).items():
        module = request.model.get_submodule(normalisation)
        is_scaled = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine
        if is_scaled and layer in request.layers:
            found[layer] = of_mean_one(module.weight.detach().abs().cpu())  # type: ignore[operator]
    followers: dict[str, Tensor] = {}
    for members in request.groups:
        known = [found[name] for name in members if name in found]
        if known:
            mean = torch.stack(known).mean(0)
            followers |= {n: mean for n in members if n in request.layers and n not in found}
    others = {layer: of_mean_one(norm) for layer, norm in l2_norms(request).items()}
    return others | found | followers


BATCHNORM_SCALE = Criterion(
    "batchnorm_scale", "channels that their BatchNorm scales most stay", "weights", scales,
    relative=False,
)  # fmt: skip
