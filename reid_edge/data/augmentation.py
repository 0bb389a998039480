"""Settings of the training augmentation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AutoAugmentation = Literal["none", "autoaugment", "randaugment", "trivialaugment"]


class AugmentationSettings(BaseModel):
    """How training images are varied."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
