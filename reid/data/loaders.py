"""Loaders for training and for evaluation."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid.data.pictures import load_picture, normalise
from reid.data.records import Picture, relabel
from reid.data.sampling import EpochSampler
from reid.data.transforms import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    AugmentationSettings,
    TrainTransform,
)


class TrainingPictures(Dataset[tuple[Tensor, int]]):
    """Augmented pictures with their class, by (index, seed)."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        augmentation: AugmentationSettings,
        height: int,
        width: int,
    ) -> None:
        self._pictures = list(pictures)
        self._classes = relabel(pictures)
        self._size = height, width
        self._transform = TrainTransform(augmentation, height, width)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        picture = load_picture(self._pictures[index].path, *self._size)
        return self._transform(picture, seed), self._classes[index]


class EvaluationPictures(Dataset[Tensor]):
    """Normalised pictures, in order."""

    def __init__(self, pictures: Sequence[Picture], height: int, width: int) -> None:
        self._pictures = list(pictures)
        self._size = height, width

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Tensor:
        picture = load_picture(self._pictures[index].path, *self._size)
        return normalise(picture, IMAGENET_MEAN, IMAGENET_DEVIATION)


def training_loader(
    pictures: Sequence[Picture],
    *,
    augmentation: AugmentationSettings,
    height: int,
    width: int,
    identities_per_batch: int,
    pictures_per_identity: int,
    seed: int,
    workers: int,
    replicas: int = 1,
) -> DataLoader[tuple[Tensor, int]]:
    """Make a loader of P x K batches: pictures (B, 3, H, W) and classes (B,).

    What it yields is a function of the pictures, the settings, the seed and the epoch; the number
    of workers does not change it. Of ``replicas`` processes each has its own batches of the epoch.

    Raises:
        TrainingError: the training set is too small for the batch.
    """
    sampler = EpochSampler(
        relabel(pictures),
        identities_per_batch=identities_per_batch,
        pictures_per_identity=pictures_per_identity,
        seed=seed,
        replicas=replicas,
    )
    return DataLoader(
        TrainingPictures(pictures, augmentation, height, width),
        batch_size=identities_per_batch * pictures_per_identity,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )


def evaluation_loader(
    pictures: Sequence[Picture], *, height: int, width: int, batch_size: int, workers: int
) -> DataLoader[Tensor]:
    """Make a loader of batches (B, 3, H, W) in the order of the pictures."""
    return DataLoader(
        EvaluationPictures(pictures, height, width), batch_size=batch_size, num_workers=workers
    )


def stack_pictures(pictures: Sequence[Picture], *, height: int, width: int) -> Tensor:
    """Load pictures into one normalised tensor (N, 3, H, W)."""
    dataset = EvaluationPictures(pictures, height, width)
    return torch.stack([dataset[index] for index in range(len(dataset))])
