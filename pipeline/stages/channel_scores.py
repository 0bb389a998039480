"""The training images that a criterion is measured on, as far as it needs images."""

import logging
import math
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.context import StageContext
from pipeline.rank_statistics import ask_covariances
from pipeline.settings.cut_sections import CutSettings
from prune.criteria import find_criterion
from prune.criteria.criterion import ScoringData
from reid_edge.data.schema import count_persons, relabel

# Share of the cross entropy of a classifier that gives all identities the same probability.
GUESSING = 0.95

logger = logging.getLogger(__name__)


class ClassifierLoss:
    """Cross entropy of a model's logits in training mode; it remembers what it returned."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of images (N, 3, H, W) with their classes (N,)."""
        logits, _ = model.train()(images)
        loss = F.cross_entropy(logits, classes)
        self.values.append(float(loss.detach()))
        return loss


def scoring_data(
    context: StageContext[Any], settings: CutSettings, *purpose: int | str
) -> ScoringData | None:
    """Draw the training images that the stage's criterion needs; None if it needs only weights.

    Args:
        context: of the stage.
        settings: of the stage.
        purpose: name of the use; each name draws its own images.
    """
    needs = find_criterion(settings.criterion).needs
    if needs == "weights":
        return None
    chosen = context.training_sample(settings.criterion_images, *purpose)
    batches = context.batches(chosen)
    progress = context.work(f"{context.stage}: channel scores")
    if needs == "images":
        return ScoringData(batches, ask=ask_covariances(context), progress=progress)
    train = context.data.train
    class_of = {p.person: label for p, label in zip(train, relabel(train), strict=True)}
    classes = torch.tensor([class_of[image.person] for image in chosen])
    labels = torch.split(classes, [len(batch) for batch in batches])
    return ScoringData(batches, labels, ClassifierLoss(), progress=progress)


def warn_of_guessing(context: StageContext[Any], criterion: str, data: ScoringData | None) -> None:
    """Warn if the criterion's loss is no better than that of a random classifier."""
    if data is None or not isinstance(data.loss, ClassifierLoss) or not data.loss.values:
        return
    loss, guessed = mean(data.loss.values), math.log(count_persons(context.data.train))
    if loss > GUESSING * guessed:
        logger.warning(
            "%s: the classifier does not know the training identities (cross entropy %.2f, by "
            "guessing %.2f), so that %s measures noise; train it first (train.epochs), or "
            "choose another %s.criterion",
            context.stage, loss, guessed, criterion, context.stage,
        )  # fmt: skip
