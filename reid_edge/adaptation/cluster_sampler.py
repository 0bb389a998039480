"""P x K batches of clusters; the draw depends on the clusters, the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from reid_edge.adaptation.clustering import OUTLIER
from reid_edge.adaptation.site import IntegerRow
from reid_edge.core.seeding import derive_seed


class ClusterSampler(Sampler[tuple[int, int]]):
    """Draw (index of an image, seed of its augmentation), P clusters x K images a batch.

    No cluster is twice in a batch, and all are drawn before one is drawn again. The images of a
    cluster are drawn from its cameras in turn, as in SpCL; a cluster of fewer than K images gives
    some twice. Outliers are not drawn.

    Args:
        labels: cluster of each image, -1 for outliers.
        cameras: of the images; None: not known.
        clusters_per_batch: P, at most the number of clusters.
        images_per_cluster: K.
        steps: batches of an epoch.
        seed: decides every draw, together with the epoch.
    """

    def __init__(
        self,
        labels: IntegerRow,
        cameras: IntegerRow | None,
        *,
        clusters_per_batch: int,
        images_per_cluster: int,
        steps: int,
        seed: int,
    ) -> None:
        cameras = np.zeros_like(labels) if cameras is None else cameras
        self._members = [
            np.flatnonzero(labels == cluster) for cluster in range(labels.max(initial=OUTLIER) + 1)
        ]
        self._cameras = [cameras[members] for members in self._members]
        self._clusters_per_batch = clusters_per_batch
        self._images_per_cluster = images_per_cluster
        self._steps = steps
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next draw (Lightning calls this)."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many images are drawn in an epoch."""
        return self._steps * self._clusters_per_batch * self._images_per_cluster

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed = derive_seed(self._seed, "epoch", self._epoch)
        generator = np.random.default_rng(seed)
        waiting: list[int] = []
        position = 0
        for _ in range(self._steps):
            batch: list[int] = []
            while len(batch) < self._clusters_per_batch:
                if not waiting:
                    waiting = generator.permutation(len(self._members)).tolist()
                # At the seam of two permutations a cluster of this batch waits for the next one.
                place = next((i for i, c in enumerate(waiting) if c not in batch), None)
                if place is None:
                    waiting = []
                    continue
                batch.append(waiting.pop(place))
            for cluster in batch:
                for index in self._draw(cluster, generator):
                    yield index, derive_seed(seed, position)
                    position += 1

    def of_rank(self, rank: int) -> Iterator[tuple[int, int]]:
        """Return what a process draws; there is one."""
        del rank
        return iter(self)

    def _draw(self, cluster: int, generator: np.random.Generator) -> list[int]:
        """Draw K images of a cluster, its cameras in turn."""
        members, cameras = self._members[cluster], self._cameras[cluster]
        drawn: list[int] = []
        while len(drawn) < self._images_per_cluster:
            order = generator.permutation(len(members))
            # The how-manieth image of its camera each one is; the sort keeps the random order.
            turn = np.array([(cameras[order[:i]] == cameras[k]).sum() for i, k in enumerate(order)])
            drawn += members[order[np.argsort(turn, kind="stable")]].tolist()
        return drawn[: self._images_per_cluster]
