"""What ranks channels: scores by layer, brought to one scale within a group.

``l2`` and ``l1``: norms of the weights (Li et al., "Pruning Filters for Efficient ConvNets", ICLR
2017). ``fpgm``: distance to the other channels of the layer (He et al., "Filter Pruning via
Geometric Median", CVPR 2019). These three are NNI's. ``batchnorm_scale``: the scale that the
BatchNorm behind a layer gives a channel (Liu et al., "Network Slimming", ICCV 2017). ``random``:
the control that every criterion has to beat.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Criterion = Literal["l2", "l1", "fpgm", "batchnorm_scale", "random"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)

Scores = dict[str, Tensor]


def rescore(
    criterion: Criterion,
    norms: Scores,
    *,
    model: nn.Module,
    normalisations: Mapping[str, str],
    groups: Sequence[Sequence[str]],
    seed: int,
) -> Scores:
    """Turn the norms that NNI computed into the scores of a criterion.

    Args:
        criterion: what ranks channels.
        norms: NNI's metric of every channel (C,), by layer that is cut.
        model: whose channels are ranked.
        normalisations: by BatchNorm, the layer whose channels it scales.
        groups: layers whose channels go together.
        seed: of the random control.

    Returns:
        Scores of every channel (C,), by layer, each with a mean of one: pointwise, depthwise and
        gate convolutions have different scales, and the largest would decide for its group alone.
    """
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(len(value), generator=generator) for name, value in norms.items()}
    scores = {name: value / value.mean().clamp_min(1e-12) for name, value in norms.items()}
    if criterion == "batchnorm_scale":
        scores |= _batchnorm_scales(scores, model, normalisations, groups)
    return scores


def _batchnorm_scales(
    scores: Scores,
    model: nn.Module,
    normalisations: Mapping[str, str],
    groups: Sequence[Sequence[str]],
) -> Scores:
    """Score layers by their BatchNorm; within a group, layers without one follow the others."""
    scales: Scores = {}
    for normalisation, layer in normalisations.items():
        module = model.get_submodule(normalisation)
        if layer in scores and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            scale = module.weight.detach().abs().cpu()
            scales[layer] = scale / scale.mean().clamp_min(1e-12)
    followers: Scores = {}
    for members in groups:
        known = [scales[name] for name in members if name in scales]
        if known:
            mean = torch.stack(known).mean(0)
            followers |= {n: mean for n in members if n in scores and n not in scales}
    return scales | followers
