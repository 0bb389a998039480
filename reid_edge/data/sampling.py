"""P x K batches whose draw depends on the seed and the epoch alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import Sampler

from reid_edge.core.errors import TrainingError
from reid_edge.core.seeding import derive_seed


class EpochSampler(Sampler[tuple[int, int]]):
    """Draw (index of an image, seed of its augmentation), P identities x K images a batch.

    The draw itself is pytorch-metric-learning's ``MPerClassSampler``. Two things are added. It is a
    function of (seed, epoch), so that an interrupted training draws the same after a restart. And
    several processes share the batches of an epoch: each draws the whole epoch and takes every
    ``replicas``-th batch, beginning with its own rank, so that no batch is seen twice.

    Args:
        classes: class of every image.
        identities_per_batch: P.
        images_per_identity: K; identities with fewer images are drawn with repetition.
        seed: decides every draw, together with the epoch.
        replicas: processes that train together; the last batches of an epoch are left out if they
            are too few for all of them.

    Raises:
        TrainingError: there are too few identities or images for a batch, or for a batch of every
            process.
    """

    def __init__(
        self,
        classes: Sequence[int],
        *,
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
        replicas: int = 1,
    ) -> None:
        batch = identities_per_batch * images_per_identity
        identities = len(set(classes))
        if identities < identities_per_batch:
            raise TrainingError(
                f"identities_per_batch is {identities_per_batch}, but the training set has only "
                f"{identities} identities; choose at most that many"
            )
        if len(classes) < batch:
            raise TrainingError(
                f"a batch of {identities_per_batch} x {images_per_identity} needs {batch} "
                f"images, but the training set has only {len(classes)}; choose smaller batches"
            )
        if len(classes) // batch < replicas:
            raise TrainingError(
                f"{replicas} devices take {replicas} batches of {batch} images at once, but the "
                f"training set has only {len(classes)} images; choose smaller batches"
            )
        self._classes = list(classes)
        self._images_per_identity = images_per_identity
        self._batch = batch
        self._seed = seed
        self._replicas = replicas
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next draw (Lightning calls this)."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many images this process draws in an epoch."""
        return len(self._classes) // self._batch // self._replicas * self._batch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed = derive_seed(self._seed, "epoch", self._epoch)
        # A new one every epoch, since it begins with the order of its last draw.
        inner = MPerClassSampler(
            self._classes,
            self._images_per_identity,
            self._batch,
            length_before_new_iter=len(self._classes) // self._batch * self._batch,
        )
        # It draws from numpy's global generator.
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            indices = [int(index) for index in inner]
        finally:
            np.random.set_state(state)
        distributed = self._replicas > 1 and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        for position, index in enumerate(indices[: len(self) * self._replicas]):
            if position // self._batch % self._replicas == rank:
                yield index, derive_seed(seed, position)
