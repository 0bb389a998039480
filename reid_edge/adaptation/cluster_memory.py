"""The memory of cluster centres and its contrastive loss.

Dai et al., "Cluster Contrast for Unsupervised Person Re-identification", ACCV 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class ClusterMemory:
    """One centre for each cluster, of unit length.

    Args:
        centres: shape (clusters, dimensions); they are scaled to unit length.
        temperature: of the loss.
        momentum: share of the old centre in an update, from 0 to 1.
    """

    def __init__(self, centres: Tensor, *, temperature: float, momentum: float) -> None:
        self.centres = F.normalize(centres.detach().float(), dim=1)
        self._temperature = temperature
        self._momentum = momentum

    @classmethod
    def of_clusters(
        cls, embeddings: Tensor, clusters: Tensor, *, temperature: float, momentum: float
    ) -> ClusterMemory:
        """Begin with the mean of each cluster's unit embeddings.

        Args:
            embeddings: shape (images, dimensions).
            clusters: of each image, from 0, int64; -1: in none.
            temperature: of the loss.
            momentum: of the updates.
        """
        unit = F.normalize(embeddings.float(), dim=1)
        inside = clusters >= 0
        sums = torch.zeros(int(clusters.max()) + 1, unit.shape[1])
        sums.index_add_(0, clusters[inside], unit[inside])
        return cls(sums, temperature=temperature, momentum=momentum)

    def loss(self, embeddings: Tensor, clusters: Tensor) -> Tensor:
        """Return the InfoNCE loss of embeddings (B, D) against all centres.

        Args:
            embeddings: of a batch.
            clusters: of its images (B,), from 0.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.float(), dim=1)
            centres = self.centres.to(unit.device)
            return F.cross_entropy(unit @ centres.T / self._temperature, clusters)

    @torch.no_grad()
    def update(self, embeddings: Tensor, clusters: Tensor) -> None:
        """Move centres towards a batch, image after image.

        Each image of unit length f moves its centre c to m c + (1 - m) f, scaled to unit length.
        The first images of all clusters are taken at once, then the second ones, and so on, since
        clusters do not depend on each other.

        Args:
            embeddings: (B, D).
            clusters: (B,), from 0.
        """
        unit = F.normalize(embeddings.detach().float(), dim=1)
        # A copy: the loss of this batch goes back through the centres as they were.
        self.centres = self.centres.to(unit.device, copy=True)
        same = clusters[:, None] == clusters[None, :]
        turn = torch.tril(same, diagonal=-1).sum(1)
        for number in range(int(turn.max()) + 1):
            rows = torch.nonzero(turn == number).flatten()
            chosen = clusters[rows]
            moved = self._momentum * self.centres[chosen] + (1 - self._momentum) * unit[rows]
            self.centres[chosen] = F.normalize(moved, dim=1)
