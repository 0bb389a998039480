"""Supervised losses: cross entropy with label smoothing, batch-hard triplet and circle loss."""

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import CircleLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor, nn

from reid_edge.training.gathering import ALONE, Together
from reid_edge.training.settings import LossSettings


class SupervisedLoss(nn.Module):
    """Weighted label-smoothed cross entropy, batch-hard triplet loss and circle loss.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017. Distances
    are Euclidean, by default between embeddings that are not normalised, as in torchreid. The mean
    is over the anchors that violate the margin; in the paper and in torchreid it is over all
    anchors.

    Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020,
    on all pairs of the batch, by their cosine.

    Args:
        settings: weights and margins.
        together: ranks whose embeddings the triplet and circle losses compare.
    """

    def __init__(self, settings: LossSettings, together: Together = ALONE) -> None:
        super().__init__()
        self._together = together
        distance = LpDistance(normalize_embeddings=settings.triplet_normalised)
        self._settings = settings
        self._cross_entropy = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        self._miner = BatchHardMiner(distance=distance)
        self._triplet = TripletMarginLoss(margin=settings.triplet_margin, distance=distance)
        self._circle = CircleLoss(m=settings.circle_margin, gamma=settings.circle_gamma)

    def forward(self, logits: Tensor, embeddings: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms by name.

        Args:
            logits: (B, num_classes).
            embeddings: (B, D).
            classes: (B,) int64.
        """
        terms: dict[str, Tensor] = {}
        if self._settings.cross_entropy:
            value = self._cross_entropy(logits.float(), classes)
            terms["cross_entropy"] = self._settings.cross_entropy * value
        if self._settings.triplet or self._settings.circle:
            with torch.autocast(embeddings.device.type, enabled=False):
                full = self._together.rows(embeddings.float())
                classes = self._together.rows(classes)
        if self._settings.triplet:
            with torch.autocast(embeddings.device.type, enabled=False):
                value = self._triplet(full, classes, self._miner(full, classes))
            terms["triplet"] = self._settings.triplet * value
        if self._settings.circle:
            with torch.autocast(embeddings.device.type, enabled=False):
                value = self._circle(full, classes)
            terms["circle"] = self._settings.circle * value
        return terms
