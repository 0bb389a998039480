"""Scores of channels that are measured on training images, for the criteria that need them."""

import logging
import math
from collections.abc import Sequence
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.context import StageContext
from pipeline.settings.cut import CutSettings
from prune.criteria import Scores
from prune.layers import Widths
from prune.reconstruction_scores import reconstruction_scores
from prune.taylor import taylor_scores
from reid_edge.data.schema import Sample, count_persons, relabel

LabelledBatch = tuple[Tensor, Tensor]

# Of the cross entropy that all identities being as likely gives.
GUESSING = 0.95

logger = logging.getLogger(__name__)


def measure_channels(
    context: StageContext,
    settings: CutSettings,
    model: nn.Module,
    *,
    widths: Widths,
    groups: Sequence[tuple[str, ...]],
    iteration: int,
) -> Scores | None:
    """Return what the stage's criterion finds on training images; None if it needs none.

    Args:
        context: of the stage.
        settings: of the stage.
        model: before the cut.
        widths: planned output channels by layer.
        groups: layers whose channels go together.
        iteration: from 1.
    """
    if settings.criterion == "reconstruction":
        batches = context.training_batches(settings.criterion_images, "scores", iteration)
        return reconstruction_scores(model, torch.cat(batches), widths=widths, groups=groups)
    if settings.criterion == "taylor":
        chosen = context.training_sample(settings.criterion_images, "scores", iteration)
        losses: list[float] = []
        loss = partial(_cross_entropy, losses)
        scores = taylor_scores(model, _labelled_batches(context, chosen), loss)
        _warn_of_guessing(context, mean(losses))
        return scores
    return None


def _labelled_batches(context: StageContext, chosen: list[Sample]) -> list[LabelledBatch]:
    """Load training images (N, 3, H, W) with their classes (N,)."""
    train = context.data.train
    class_of = {p.person: label for p, label in zip(train, relabel(train), strict=True)}
    batches = context.batches(chosen)
    classes = torch.tensor([class_of[image.person] for image in chosen])
    return list(zip(batches, torch.split(classes, [len(batch) for batch in batches]), strict=True))


def _cross_entropy(losses: list[float], model: nn.Module, batch: LabelledBatch) -> Tensor:
    images, classes = batch
    logits, _ = model.train()(images)
    loss = F.cross_entropy(logits, classes)
    losses.append(float(loss.detach()))
    return loss


def _warn_of_guessing(context: StageContext, loss: float) -> None:
    """Say so if the loss whose gradients were taken is that of a classifier that knows nothing."""
    guessed = math.log(count_persons(context.data.train))
    if loss > GUESSING * guessed:
        logger.warning(
            "%s: the classifier does not know the training identities (cross entropy %.2f, by "
            "guessing %.2f), so that taylor measures noise; train it first (train.epochs), or "
            "choose another %s.criterion", context.stage, loss, guessed, context.stage,
        )  # fmt: skip
