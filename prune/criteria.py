"""What ranks channels: scores by layer, brought to one scale within a group.

``l2`` and ``l1``: norms of the weights (Li et al., "Pruning Filters for Efficient ConvNets", ICLR
2017). ``fpgm``: distance to the other channels of the layer (He et al., "Filter Pruning via
Geometric Median", CVPR 2019). These three are NNI's. ``batchnorm_scale``: the scale that the
BatchNorm behind a layer gives a channel (Liu et al., "Network Slimming", ICCV 2017). ``taylor``:
what the loss would change by without the channel, measured on images (:mod:`prune.taylor`).
``reconstruction``: what least squares cannot make up for when the channel is gone, measured on
images (:mod:`prune.reconstruction_scores`). ``random``: the control that every criterion has
to beat.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from reid_edge.core.errors import PruneError

Criterion = Literal["l2", "l1", "fpgm", "taylor", "batchnorm_scale", "reconstruction", "random"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
MEASURED: tuple[Criterion, ...] = ("taylor", "reconstruction")

Scores = dict[str, Tensor]


def rescore(
    criterion: Criterion,
    norms: Scores,
    *,
    model: nn.Module,
    normalisations: Mapping[str, str],
    groups: Sequence[Sequence[str]],
    seed: int,
    measured: Mapping[str, Tensor] | None = None,
) -> Scores:
    """Turn the norms that NNI computed into the scores of a criterion.

    Args:
        criterion: what ranks channels.
        norms: NNI's metric of every channel (C,), by layer that is cut.
        model: whose channels are ranked.
        normalisations: by BatchNorm, the layer whose channels it scales.
        groups: layers whose channels go together.
        seed: of the random control.
        measured: scores (C,) by layer that were measured on images, for the criteria that are.

    Returns:
        Scores of every channel (C,), by layer, brought to a mean of one (but random ones, which
        have one scale): pointwise, depthwise and gate convolutions have different scales, and the
        largest would decide for its group alone.

    Raises:
        PruneError: the criterion is measured on images, and no scores of a layer were given.
    """
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(len(value), generator=generator) for name, value in norms.items()}
    if criterion in MEASURED:
        norms = {name: _measured(criterion, name, measured or {}) for name in norms}
    scores = {name: _of_mean_one(value) for name, value in norms.items()}
    if criterion == "batchnorm_scale":
        scores |= _batchnorm_scales(scores, model, normalisations, groups)
    return scores


def _of_mean_one(scores: Tensor) -> Tensor:
    # However small: those of taylor are, in a model that has learned its images.
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _measured(criterion: Criterion, layer: str, measured: Mapping[str, Tensor]) -> Tensor:
    if layer not in measured:
        raise PruneError(
            f"criterion {criterion!r} is measured on images, and nothing was measured at "
            f"{layer!r}; does the model's forward pass reach it?"
        )
    return measured[layer]


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
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or not module.affine:
            continue
        if layer in scores:
            scales[layer] = _of_mean_one(module.weight.detach().abs().cpu())
    followers: Scores = {}
    for members in groups:
        known = [scales[name] for name in members if name in scales]
        if known:
            mean = torch.stack(known).mean(0)
            followers |= {n: mean for n in members if n in scores and n not in scales}
    return scales | followers
