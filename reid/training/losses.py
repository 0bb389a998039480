"""Supervised losses: cross entropy with label smoothing and the batch-hard triplet loss."""

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor, nn

from reid.training.settings import LossSettings


class SupervisedLoss(nn.Module):
    """Weighted sum of label-smoothed cross entropy and batch-hard triplet loss.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017. Distances
    are Euclidean, by default on embeddings as they are, as in torchreid.
    """

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        distance = LpDistance(normalize_embeddings=settings.triplet_normalised)
        self._settings = settings
        self._cross_entropy = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        self._miner = BatchHardMiner(distance=distance)
        self._triplet = TripletMarginLoss(margin=settings.triplet_margin, distance=distance)

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
        if self._settings.triplet:
            with torch.autocast(embeddings.device.type, enabled=False):
                full = embeddings.float()
                value = self._triplet(full, classes, self._miner(full, classes))
            terms["triplet"] = self._settings.triplet * value
        return terms
