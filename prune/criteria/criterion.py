"""What a criterion declares, what it is given, and how its scores are checked and scaled.

A declaration can be read without PyTorch: a criterion imports it when it scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reid_edge.core.errors import PruneError

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    """

    batches: Sequence[Tensor]
    labels: Sequence[Tensor] = ()
    loss: Loss | None = None


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
        score: returns a score of every channel (C,) by layer; the higher, the more important. It
            may leave out layers that are not cut.
        relative: only the proportions within a layer mean something: the scores of every layer are
            brought to a mean of one before those of a group are averaged. Layers differ in scale,
            and the largest would decide for its group alone.
        losses: returns by layer what is lost (C,) without its n weakest channels, n from 0, of a
            request whose layers are all that may be cut; used to choose widths under a budget.
            None: the share of squared L2 norm that is removed stands for it.
    """

    name: str
    description: str
    needs: Needs
    score: Callable[[ScoreRequest], dict[str, Tensor]]
    relative: bool = True
    losses: Callable[[ScoreRequest], dict[str, Tensor]] | None = None


def score_channels(criterion: Criterion, request: ScoreRequest) -> dict[str, Tensor]:
    """Score the channels of every layer that is cut.

    Args:
        criterion: what ranks channels.
        request: what to score.

    Returns:
        Scores (C,) by layer, in the order of ``request.layers``; of a relative criterion, each
        layer's with a mean of one.

    Raises:
        PruneError: the criterion needs data that the request does not have, gave no scores for a
            layer, scores of another shape, or one that is not a number.
    """
    _check_data(criterion, request.data)
    found = criterion.score(request)
    scores: dict[str, Tensor] = {}
    for layer in request.layers:
        if layer not in found:
            raise PruneError(
                f"criterion {criterion.name!r} {_MEASURED[criterion.needs]}, and nothing was "
                f"measured at {layer!r}; does the model's forward pass reach it?"
            )
        score, channels = found[layer], len(request.weight(layer))
        if score.shape != (channels,):
            raise PruneError(
                f"criterion {criterion.name!r} gave scores of shape {tuple(score.shape)} for "
                f"{layer!r}; expected one score for each of its {channels} channels"
            )
        if score.isnan().any():
            raise PruneError(
                f"criterion {criterion.name!r} gave a score that is not a number for {layer!r}; "
                "are the model's weights finite?"
            )
        scores[layer] = of_mean_one(score) if criterion.relative else score
    return scores


_MEASURED: Mapping[Needs, str] = {
    "weights": "is measured on weights",
    "images": "is measured on images",
    "labelled_images": "is measured on images",
}


def of_mean_one(scores: Tensor) -> Tensor:
    """Scale scores to a mean of one; those of a layer of zeros stay zeros."""
    # However small: those of taylor are, in a model that has learned its images.
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _check_data(criterion: Criterion, data: ScoringData | None) -> None:
    """Check that a criterion gets the data that it needs.

    Raises:
        PruneError: images, classes or a loss are missing, or there are other numbers of them.
    """
    if criterion.needs == "weights":
        return
    if data is None or not data.batches:
        raise PruneError(
            f"criterion {criterion.name!r} is measured on images, and none were given; pass "
            "data=ScoringData(batches), or take a criterion that needs weights alone, such as 'l2'"
        )
    if criterion.needs == "images":
        return
    counts = [len(batch) for batch in data.batches]
    if data.loss is None or [len(labels) for labels in data.labels] != counts:
        raise PruneError(
            f"criterion {criterion.name!r} needs a loss and the class of every image; pass "
            "data=ScoringData(batches, labels, loss) with labels (N,) for every batch"
        )
