"""The declaration of a criterion, its input, and the checks and scaling of its scores.

A declaration can be read without PyTorch: a criterion imports it when it scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from reid_edge.core.errors import PruneError
from reid_edge.core.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prune.covariances import AskCovariances

Loss = Callable[["nn.Module", "Tensor", "Tensor"], "Tensor"]
"""Of a model, images (N, 3, H, W) and their classes (N,): a scalar."""

Needs = Literal["weights", "images", "labelled_images"]


@dataclass(frozen=True)
class ScoringData:
    """What a criterion is measured on.

    Attributes:
        batches: images (N, 3, H, W).
        labels: classes (N,) of each batch; only for criteria that need labelled images.
        loss: takes a copy of the model, which it may put into training mode, images (N, 3, H, W)
            and their classes (N,), and returns a scalar; only for the same criteria.
        ask: lets other processes take their share of the images, for criteria that can; None: there
            are no others.
        progress: called with (done, total) while a criterion looks at the batches.
    """

    batches: Sequence[Tensor]
    labels: Sequence[Tensor] = ()
    loss: Loss | None = None
    ask: AskCovariances | None = None
    progress: Progress = lambda _done, _total: None


@dataclass(frozen=True)
class ScoreRequest:
    """What a criterion is asked to score.

    Attributes:
        model: in evaluation mode, on the CPU; a criterion leaves it as it was.
        layers: convolutions and linear layers that are cut, in module order.
        widths: planned output channels by layer.
        groups: layers whose channels go together.
        seed: for criteria that draw.
        data: what to measure on; None for criteria that need weights alone.
    """

    model: nn.Module
    layers: tuple[str, ...]
    widths: Mapping[str, int]
    groups: Sequence[tuple[str, ...]]
    seed: int = 0
    data: ScoringData | None = None

    def weight(self, layer: str) -> Tensor:
        """Return the weights of a layer (C, values of a channel)."""
        weight: Tensor = self.model.get_submodule(layer).weight  # type: ignore[assignment]
        return weight.detach().flatten(1)


@dataclass(frozen=True)
class Criterion:
    """What ranks channels.

    Attributes:
        name: in settings and messages.
        description: which channels stay, in one sentence, with the source.
        needs: what it looks at: the weights alone, images, or images with their classes. Callers
            draw data accordingly.
        score: returns a score of every channel (C,), a float tensor, by layer; the higher, the more
            important. It may leave out layers that are not cut.
        relative: only the proportions of the scores within a layer have a meaning, so they are 0 or
            more. The scores of every layer are scaled to a mean of one before the scores of a group
            are averaged; otherwise the layer with the largest scale would decide for its group.
        losses: returns by layer the losses (C,) of removing its n weakest channels, n from 0, for a
            request with all layers that may be cut; used to choose widths under a budget. None:
            the loss is the negative logarithm of the share of squared L2 norm that is kept.

    Raises:
        PruneError: ``needs`` is none of the three.
    """

    name: str
    description: str
    needs: Needs
    score: Callable[[ScoreRequest], dict[str, Tensor]]
    relative: bool = True
    losses: Callable[[ScoreRequest], dict[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.needs not in get_args(Needs):
            raise PruneError(
                f"criterion {self.name!r}: needs={self.needs!r}; expected one of "
                f"{', '.join(map(repr, get_args(Needs)))}"
            )


def score_channels(criterion: Criterion, request: ScoreRequest) -> dict[str, Tensor]:
    """Score the channels of every layer that is cut.

    Args:
        criterion: what ranks channels.
        request: what to score.

    Returns:
        Scores (C,) by layer, in the order of ``request.layers``; of a relative criterion, each
        layer's with a mean of one.

    Raises:
        PruneError: the criterion needs data that the request does not have, or what it returned are
            not finite scores (C,) of every layer.
    """
    data = request.data
    if criterion.needs != "weights" and (data is None or not data.batches):
        raise PruneError(
            f"criterion {criterion.name!r} is measured on images, and none were given; pass "
            "data=ScoringData(batches), or take a criterion that needs weights alone, such as 'l2'"
        )
    if criterion.needs == "labelled_images" and data is not None:
        counts = [len(batch) for batch in data.batches]
        if data.loss is None or [len(labels) for labels in data.labels] != counts:
            raise PruneError(
                f"criterion {criterion.name!r} needs a loss and the class of every image; pass "
                "data=ScoringData(batches, labels, loss) with labels (N,) for every batch"
            )
    found: object = criterion.score(request)
    if not isinstance(found, Mapping):
        raise PruneError(
            f"criterion {criterion.name!r} returned {type(found).__name__}; expected a dict with "
            "the scores (C,) by layer"
        )
    scores: dict[str, Tensor] = {}
    for layer in request.layers:
        if layer not in found:
            raise PruneError(
                f"criterion {criterion.name!r} returned no scores for layer {layer!r}; expected "
                "scores for every layer that is cut; does the model's forward pass reach it?"
            )
        score = _checked_score(criterion, layer, found[layer], len(request.weight(layer)))
        scores[layer] = of_mean_one(score) if criterion.relative else score
    return scores


def _checked_score(criterion: Criterion, layer: str, score: object, channels: int) -> Tensor:
    """Return the scores of a layer, if they can be used.

    Raises:
        PruneError: they are no float tensor (C,), not finite, or negative where only proportions
            have a meaning.
    """
    from torch import Tensor

    place = f"at layer {layer!r}"
    name = f"criterion {criterion.name!r}"
    if not isinstance(score, Tensor) or not score.is_floating_point():
        kind = f"a tensor of {score.dtype}" if isinstance(score, Tensor) else type(score).__name__
        raise PruneError(
            f"{name} returned {kind} {place}; expected a float tensor with one score for each of "
            f"its {channels} channels"
        )
    if score.shape != (channels,):
        raise PruneError(
            f"{name} returned scores of shape {tuple(score.shape)} {place}; expected one score for "
            f"each of its {channels} channels"
        )
    if not score.isfinite().all():
        raise PruneError(
            f"{name} returned scores that are not finite {place}; one possible cause is weights "
            "that are not finite"
        )
    if criterion.relative and score.mean() < 0:
        raise PruneError(
            f"{name} returned scores with a negative mean {place}; expected scores of 0 or more, "
            "or a criterion with relative=False"
        )
    return score


def of_mean_one(scores: Tensor) -> Tensor:
    """Scale scores to a mean of one; those of a layer of zeros stay zeros."""
    # No lower bound: the scores of taylor are tiny in a model that has learned its images.
    mean = scores.mean()
    return scores / mean if mean > 0 else scores
