"""One cut: scores, masks, surgery, check."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from prune.criteria import find_criterion
from prune.criteria.criterion import Criterion, ScoreRequest, ScoringData, score_channels
from prune.dry_run import check_cut
from prune.equivalence import check_compact
from prune.layer_widths import Widths, layer_widths
from prune.nni_backend import find_groups, mask_channels, remove_masked
from prune.plans import check_groups, check_one_width, is_of_one_width
from prune.supported import check_supported
from reid_edge.core.errors import PruneError, reason_of


@dataclass(frozen=True)
class Cut:
    """The result of a cut.

    Attributes:
        model: the compact model, in evaluation mode; parameters keep their ``requires_grad``.
        kept: indices of the channels of the model before the cut that stay, by layer.
        scores: importance of the channels before the cut (C,), by layer that was cut.
        groups: layers whose channels went together.
        difference: masked against compact, maximal relative error.
        seconds: time of each step.
    """

    model: nn.Module
    kept: dict[str, Tensor]
    scores: dict[str, Tensor]
    groups: list[tuple[str, ...]]
    difference: float
    seconds: dict[str, float]


def cut(
    model: nn.Module,
    widths: Widths,
    *,
    example: Tensor,
    check_input: Tensor,
    criterion: str | Criterion = "l2",
    data: ScoringData | None = None,
    seed: int = 0,
    groups: list[tuple[str, ...]] | None = None,
) -> Cut:
    """Take a model to planned widths: mask, remove, check.

    Args:
        model: any module that ``torch.fx`` traces; it is left as it was.
        widths: planned output channels by layer; layers that are not named stay as they are.
        example: input (2, 3, H, W) for tracing; small is fast, and the result does not depend on it
            as long as no map shrinks to a few pixels.
        check_input: input (N, 3, H, W) on which masked and compact model are compared.
        criterion: what ranks channels: a name in :data:`prune.criteria.CRITERIA`, or one's own.
        data: images, for a criterion that is measured on images.
        seed: for a criterion that draws.
        groups: what :func:`prune.nni_backend.find_groups` returned for this model or for a wider
            form of it; none: they are found here, which takes seconds.

    Raises:
        PruneError: the criterion is unknown or lacks data, the plan splits a group or names what
            cannot be cut, the model cannot be taken apart, or the result is not what was planned.
    """
    criterion = find_criterion(criterion)
    clock = _Clock()
    traced = check_supported(model, widths)
    try:
        source = copy.deepcopy(model).cpu().eval()
    except Exception as error:  # a module may raise anything
        raise PruneError(
            f"{type(model).__name__} cannot be copied ({reason_of(error)}); weights that are "
            "computed, as those of weight_norm are, have to be made plain parameters first"
        ) from error
    graph = fx.GraphModule(source, traced)
    example, check_input = example.cpu(), check_input.cpu()
    # All names of a parameter, because the surgery replaces a module under one name only.
    parameters = model.named_parameters(remove_duplicate=False)
    learns = {name: parameter.requires_grad for name, parameter in parameters}
    if groups is None:
        groups = find_groups(source, example)
    now = layer_widths(source)
    check_one_width(groups, now, widths)
    whole = [members for members in groups if is_of_one_width(members, now)]
    check_groups({**now, **widths}, whole)
    check_cut(source, widths, whole, example, graph)
    clock.stop("groups")
    layers = tuple(name for name in now if widths.get(name, now[name]) < now[name])
    request = ScoreRequest(source, layers, widths, groups, seed, data)
    scores = fuse_scores(score_channels(criterion, request), groups)
    clock.stop("scores")
    masked = mask_channels(
        source,
        example=example,
        check_input=check_input,
        widths=widths,
        scores=scores,
        graph=graph.graph,
    )
    clock.stop("masks")
    remove_masked(source, masked.masks, example, graph)
    clock.stop("surgery")
    difference = check_compact(
        model,
        source,
        widths=widths,
        kept=masked.kept,
        masked_output=masked.output,
        check_input=check_input,
    )
    clock.stop("check")
    for name, parameter in source.named_parameters():
        parameter.requires_grad_(learns[name])
    return Cut(source.eval(), masked.kept, scores, groups, difference, clock.seconds)


def fuse_scores(scores: Mapping[str, Tensor], groups: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """Average scores (C,) over each group, so that its members lose the same channels."""
    fused = dict(scores)
    for group in groups:
        members = [name for name in group if name in scores]
        if members:
            mean = torch.stack([scores[name] for name in members]).mean(0)
            fused |= dict.fromkeys(members, mean)
    return fused


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def stop(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = now - self._since
        self._since = now


def compose_kept(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return which channels of the model before two cuts are kept after both."""
    return {name: torch.as_tensor(first[name])[second[name]] for name in first}
