"""Training augmentation, drawn from a seed of its own for every image."""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms import v2

from reid_edge.data.images import normalise

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

AutoAugmentation = Literal["none", "autoaugment", "randaugment", "trivialaugment"]
AUTO_AUGMENTATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "autoaugment": v2.AutoAugment,
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}


class AugmentationSettings(BaseModel):
    """How training images are varied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    crop_padding: int = Field(
        8, ge=0, description="pixels of padding before a random crop back to the input size"
    )
    erasing: float = Field(0.0, ge=0, le=1, description="probability of random erasing")
    colour_jitter: float = Field(
        0.0, ge=0, le=1, description="strength of brightness, contrast and saturation jitter"
    )
    hue_jitter: float = Field(
        0.0, ge=0, le=0.5, description="strength of hue jitter; clothes are known by their colour"
    )
    auto_augment: AutoAugmentation = Field(
        "none",
        description="torchvision's autoaugment (ImageNet's policy), randaugment or trivialaugment",
    )
    auto_augment_probability: float = Field(
        0.1, gt=0, le=1, description="share of the images that auto_augment is drawn for"
    )


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
            torch.manual_seed(seed)
            varied = self._vary(image) if self._vary is not None else image
            result = normalise(varied, IMAGENET_MEAN, IMAGENET_STD)
            return self._erase(result) if self._erase is not None else result
