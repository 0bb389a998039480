"""Tensors of images: normalisation, and augmentation from a seed for every image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD

AUTO_AUGMENTATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "autoaugment": v2.AutoAugment,
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Map uint8 RGB (..., 3, H, W) to float32: scale to [0, 1], subtract mean, divide by std."""
    scaled = functional.to_dtype(images, torch.float32, scale=True)
    normalised: Tensor = functional.normalize(scaled, list(mean), list(std))
    return normalised


class TrainTransform:
    """Vary a uint8 image (3, H, W) and normalise it to float32.

    Random erasing fills with zeros after normalisation, which is the mean colour.
    """

    def __init__(self, settings: AugmentationSettings, height: int, width: int) -> None:
        steps: list[torch.nn.Module] = []
        if settings.flip:
            steps.append(v2.RandomHorizontalFlip(settings.flip))
        if settings.crop_padding:
            steps.append(v2.RandomCrop((height, width), padding=settings.crop_padding))
        if settings.auto_augment != "none":
            policy = AUTO_AUGMENTATIONS[settings.auto_augment]()
            steps.append(v2.RandomApply([policy], settings.auto_augment_probability))
        if settings.colour_jitter or settings.hue_jitter:
            strength = settings.colour_jitter
            steps.append(v2.ColorJitter(strength, strength, strength, settings.hue_jitter))
        self._vary = v2.Compose(steps) if steps else None
        self._erase = v2.RandomErasing(settings.erasing) if settings.erasing else None

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Return float32 (3, H, W), a function of image and seed alone."""
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone: torch.manual_seed also writes down the call stack for each kind of
            # GPU that is there and not in use, which takes as long as decoding the image.
            torch.default_generator.manual_seed(seed)
            varied = self._vary(image) if self._vary is not None else image
            result = normalise(varied, IMAGENET_MEAN, IMAGENET_STD)
            return self._erase(result) if self._erase is not None else result
