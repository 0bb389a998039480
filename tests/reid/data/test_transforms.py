"""A varied picture is a function of the picture and a seed."""

import pytest
import torch

from reid.data.pictures import normalise
from reid.data.transforms import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    AugmentationSettings,
    TrainTransform,
)

PLAIN = {"flip": 0.0, "crop_padding": 0}
PICTURE = torch.randint(
    0, 256, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
UNVARIED = normalise(PICTURE, IMAGENET_MEAN, IMAGENET_DEVIATION)


def vary(seed: int, **settings: object) -> torch.Tensor:
    transform = TrainTransform(AugmentationSettings.model_validate(PLAIN | settings), 32, 16)
    return transform(PICTURE, seed)


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": 0.5},
        {"crop_padding": 4},
        {"erasing": 0.9},
        {"colour_jitter": 0.5},
        {"hue_jitter": 0.5},
        {"auto_augment": "autoaugment", "auto_augment_probability": 1},
        {"auto_augment": "randaugment", "auto_augment_probability": 1},
        {"auto_augment": "trivialaugment", "auto_augment_probability": 1},
    ],
)
def test_every_setting_varies_by_the_seed_alone(settings: dict[str, object]) -> None:
    torch.manual_seed(1)
    expected = torch.randn(1)
    torch.manual_seed(1)
    first = [vary(seed, **settings) for seed in range(12)]
    assert torch.equal(torch.randn(1), expected)
    again = [vary(seed, **settings) for seed in range(12)]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert all(picture.shape == (3, 32, 16) for picture in first)
    assert not all(torch.equal(picture, UNVARIED) for picture in first)
    assert not all(torch.equal(picture, first[0]) for picture in first)


def test_a_picture_stays_as_it_is_without_any() -> None:
    assert torch.equal(vary(0), UNVARIED)


def test_the_share_of_pictures_that_auto_augment_is_drawn_for() -> None:
    settings = {"auto_augment": "trivialaugment", "auto_augment_probability": 0.25}
    drawn = [not torch.equal(vary(seed, **settings), UNVARIED) for seed in range(200)]
    # Some of the policy's operations change nothing.
    assert 0.12 < sum(drawn) / len(drawn) < 0.3


def test_hue_keeps_greys() -> None:
    grey = torch.full((3, 32, 16), 77, dtype=torch.uint8)
    transform = TrainTransform(AugmentationSettings(**PLAIN, hue_jitter=0.5), 32, 16)
    assert torch.equal(transform(grey, 3), normalise(grey, IMAGENET_MEAN, IMAGENET_DEVIATION))
