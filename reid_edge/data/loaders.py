"""Loaders for training and for evaluation."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD, load_image
from reid_edge.data.image_cache import ImageCache
from reid_edge.data.sampling import EpochSampler, NeighbourSampler
from reid_edge.data.schema import Sample, relabel
from reid_edge.data.transforms import TrainTransform, normalise
from reid_edge.data.worker_limits import Loader, fit_workers, make_loader

BYTES_OF_PIXEL = 3 * 4  # float32


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Augmented images with their class (by default that of the identity), by (index, seed)."""

    def __init__(
        self,
        images: Sequence[Sample],
        augmentation: AugmentationSettings,
        height: int,
        width: int,
        cache: Path | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        self._images = list(images)
        paths = [image.path for image in images]
        self._cache = None if cache is None else ImageCache(cache, paths, height, width)
        self._classes = relabel(images) if classes is None else classes
        self._size = height, width
        self._transform = TrainTransform(augmentation, height, width)

    def __len__(self) -> int:
        return len(self._images)

    def path_of(self, index: int) -> Path:
        """Return the file of an image."""
        return self._images[index].path

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        if self._cache is None:
            pixels = load_image(self._images[index].path, *self._size)
        else:
            pixels = self._cache.load(index)
        return self._transform(torch.from_numpy(pixels), seed), self._classes[index]


class EvaluationImages(Dataset[Tensor]):
    """Normalised images, in order."""

    def __init__(self, images: Sequence[Sample], height: int, width: int) -> None:
        self._images = list(images)
        self._size = height, width

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        image = torch.from_numpy(load_image(self._images[index].path, *self._size))
        return normalise(image, IMAGENET_MEAN, IMAGENET_STD)


def training_loader(
    images: Sequence[Sample],
    *,
    augmentation: AugmentationSettings,
    height: int,
    width: int,
    identities_per_batch: int,
    images_per_identity: int,
    seed: int,
    workers: int,
    replicas: int = 1,
    cache: Path | None = None,
    replicas_here: int | None = None,
    neighbours: NDArray[np.int64] | None = None,
    places: bool = False,
) -> DataLoader[tuple[Tensor, int]]:
    """Make a loader of P x K batches: images (B, 3, H, W) and classes (B,).

    The batches are a function of the images, the settings, the seed and the epoch; the number of
    workers does not change them. There are fewer workers where shared memory or file handles do
    not allow them, see :mod:`reid_edge.data.worker_limits`. Each of ``replicas`` processes has its
    own batches of the epoch; ``replicas_here`` of them, by default all, are on this machine. With a
    folder ``cache`` decoded images are kept there, which changes no batch, see
    :mod:`reid_edge.data.image_cache`.

    With ``neighbours`` (N, M), the places of the neighbours of every image, a batch has P images
    with K - 1 neighbours each, for one process. With ``places``, the places of the images stand for
    the classes.

    Raises:
        TrainingError: the training set is too small for the batch.
    """
    return make_loader(
        TrainingImages(
            images, augmentation, height, width, cache, range(len(images)) if places else None
        ),
        batch_size=identities_per_batch * images_per_identity,
        image_bytes=BYTES_OF_PIXEL * height * width,
        workers=workers,
        replicas=replicas if replicas_here is None else replicas_here,
        persistent=True,
        sampler=training_sampler(
            images, identities_per_batch, images_per_identity, seed, replicas, neighbours
        ),
        drop_last=True,
    )


def training_sampler(
    images: Sequence[Sample],
    groups: int,
    images_of_group: int,
    seed: int,
    replicas: int = 1,
    neighbours: NDArray[np.int64] | None = None,
) -> EpochSampler | NeighbourSampler:
    """Make the sampler of a training loader, see `training_loader`.

    Raises:
        TrainingError: the training set is too small for the batch.
    """
    if neighbours is not None:
        return NeighbourSampler(
            neighbours, groups_per_batch=groups, images_per_group=images_of_group, seed=seed
        )
    return EpochSampler(
        relabel(images),
        identities_per_batch=groups,
        images_per_identity=images_of_group,
        seed=seed,
        replicas=replicas,
    )


class EveryBatch(Sampler[list[int]]):
    """Every ``replicas``-th batch of indices in order, beginning with that of this process's rank.

    Args:
        images: number of images.
        batch_size: images in a batch.
        replicas: processes that share the batches.
    """

    def __init__(self, images: int, batch_size: int, replicas: int) -> None:
        self._batches = [
            list(range(start, min(start + batch_size, images)))
            for start in range(0, images, batch_size)
        ]
        self._replicas = replicas

    def _own(self) -> list[list[int]]:
        distributed = self._replicas > 1 and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        # Lightning leaves out the validation of a process without a batch; the others would wait.
        return self._batches[rank :: self._replicas] or self._batches[:1]

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._own())


def evaluation_loader(
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    batch_size: int,
    workers: int,
    replicas: int = 1,
) -> DataLoader[Tensor]:
    """Make a loader of batches (B, 3, H, W) in the order of the images.

    Each of ``replicas`` processes has every so many of the batches.
    """
    dataset = EvaluationImages(images, height, width)
    image_bytes = BYTES_OF_PIXEL * height * width
    if replicas > 1:
        found = fit_workers(workers, batch_size * image_bytes, replicas)
        return Loader(
            dataset,
            batch_sampler=EveryBatch(len(images), batch_size, replicas),
            num_workers=0 if found.through_pipes else found.count,
        )
    return make_loader(dataset, batch_size=batch_size, image_bytes=image_bytes, workers=workers)


def stack_images(images: Sequence[Sample], *, height: int, width: int) -> Tensor:
    """Load images into one normalised tensor (N, 3, H, W)."""
    dataset = EvaluationImages(images, height, width)
    return torch.stack([dataset[index] for index in range(len(dataset))])
