"""Batches whose draw depends on the seed and the epoch alone: of identities, or of neighbours."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from reid_edge.core.errors import TrainingError
from reid_edge.core.seeding import derive_seed


class EpochSampler(Sampler[tuple[int, int]]):
    """Draw (index of an image, seed of its augmentation), P identities x K images a batch.

    The draw itself is that of pytorch-metric-learning's ``MPerClassSampler``, number by number (see
    `draw_batches`). Two things are added. It is a function of (seed, epoch), so that an interrupted
    training draws the same after a restart. And several processes share the batches of an epoch:
    each draws the whole epoch and takes every ``replicas``-th batch, beginning with its own rank,
    so that no batch is seen twice. Where there are enough identities, the batches of a step are
    drawn as one batch of all processes and shared out, so that they have no identity in common.

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
        check_batch(len(classes), identities_per_batch, images_per_identity)
        if len(classes) // batch < replicas:
            raise TrainingError(
                f"{replicas} devices take {replicas} batches of {batch} images at once, but the "
                f"training set has only {len(classes)} images; choose smaller batches"
            )
        self._classes = np.asarray(classes, dtype=np.int64)
        self._identities_per_batch = identities_per_batch
        self._images_per_identity = images_per_identity
        self._seed = seed
        self._replicas = replicas
        # Batches that are drawn as one.
        self._joint = replicas if identities >= identities_per_batch * replicas else 1
        self._epoch = 0
        self._batches = len(classes) // batch // replicas

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next draw (Lightning calls this)."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many images this process draws in an epoch."""
        return self._batches * self._identities_per_batch * self._images_per_identity

    def __iter__(self) -> Iterator[tuple[int, int]]:
        distributed = self._replicas > 1 and torch.distributed.is_initialized()
        return self.of_rank(torch.distributed.get_rank() if distributed else 0)

    def of_rank(self, rank: int) -> Iterator[tuple[int, int]]:
        """Return what a process draws in the epoch."""
        seed = derive_seed(self._seed, "epoch", self._epoch)
        identities, images = self._identities_per_batch, self._images_per_identity
        size, joint = identities * images, self._joint
        drawn = draw_batches(self._classes, joint * identities, images, seed)
        for number in range(self._batches * self._replicas):
            if number % joint == 0:
                together = next(drawn)
            if number % self._replicas == rank:
                own = together[number % joint * size :][:size]
                for position, index in enumerate(own, start=number * size):
                    yield index, derive_seed(seed, position)


def check_batch(images: int, groups: int, images_of_group: int) -> None:
    """Check that there are enough images for a batch.

    Raises:
        TrainingError: there are too few.
    """
    batch = groups * images_of_group
    if images < batch:
        raise TrainingError(
            f"a batch of {groups} x {images_of_group} needs {batch} "
            f"images, but the training set has only {images}; choose smaller batches"
        )


class NeighbourSampler(Sampler[tuple[int, int]]):
    """Draw P images a batch, each with K - 1 of its neighbours: (index, seed of augmentation).

    The draw is a function of (seed, epoch). An epoch draws nearly every image once: an image that
    was a neighbour of another one before is not drawn by itself, and neighbours that were not drawn
    yet come first.

    Args:
        neighbours: places of the neighbours of every image, shape (N, M), M of K - 1 or more.
        groups_per_batch: P.
        images_per_group: K.
        seed: decides every draw, together with the epoch.

    Raises:
        TrainingError: there are too few images for a batch.
    """

    def __init__(
        self,
        neighbours: NDArray[np.int64],
        *,
        groups_per_batch: int,
        images_per_group: int,
        seed: int,
    ) -> None:
        check_batch(len(neighbours), groups_per_batch, images_per_group)
        self._neighbours = neighbours
        self._images_per_group = images_per_group
        self._seed = seed
        self._epoch = 0
        batch = groups_per_batch * images_per_group
        self._drawn = len(neighbours) // batch * batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next draw (Lightning calls this)."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return how many images are drawn in an epoch."""
        return self._drawn

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seed = derive_seed(self._seed, "epoch", self._epoch)
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(self._neighbours)).tolist()
        found = order if self._images_per_group == 1 else self._with_neighbours(order, generator)
        for position, index in enumerate(found[: self._drawn]):
            yield index, derive_seed(seed, position)

    def _with_neighbours(self, order: list[int], generator: np.random.Generator) -> list[int]:
        """Return the images in an order, each with some of its neighbours behind it."""
        drawn = np.zeros(len(order), dtype=bool)
        found: list[int] = []
        # Of all groups together, there are as many images as there are in the set, or more.
        for first in order:
            if drawn[first]:
                continue
            others = generator.permutation(self._neighbours[first])
            others = others[np.argsort(drawn[others], kind="stable")]
            group = [first, *others[: self._images_per_group - 1].tolist()]
            drawn[group] = True
            found += group
        return found


def draw_batches(
    classes: NDArray[np.int64], identities: int, images: int, seed: int
) -> Iterator[list[int]]:
    """Draw batches without end; each is made when it is asked for.

    The numbers are those that ``MPerClassSampler`` of pytorch-metric-learning 2 draws from a
    generator of the same seed: all identities are shuffled for every batch, in the order that the
    last batch left them in, and the images of the first ones are drawn. That sampler shuffles a
    Python list and calls ``numpy.random.choice``; this function shuffles an array and draws what
    ``choice`` draws, which takes a twentieth of the time for a million images. It also leaves the
    global generator of NumPy alone.

    Args:
        classes: class of every image, shape (images,).
        identities: in a batch.
        images: of each identity; of an identity with fewer, some are drawn several times.
        seed: decides every draw.

    Yields:
        Indices of images, those of an identity together.
    """
    by_class = np.argsort(classes, kind="stable")
    _, first, members = np.unique(classes[by_class], return_index=True, return_counts=True)
    # In the order in which the identities occur.
    order = np.argsort(by_class[first])
    generator = np.random.RandomState(seed)
    while True:
        generator.shuffle(order)
        batch: list[int] = []
        for identity in order[:identities].tolist():
            count, start = int(members[identity]), int(first[identity])
            if count < images:
                places = generator.randint(0, count, size=images)
            else:
                places = generator.permutation(count)[:images]
            batch.extend(by_class[start + places].tolist())
        yield batch
