"""A varied image is a function of the image and a seed."""

import pytest
import torch

from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.data.transforms import TrainTransform, normalise

PLAIN = {"flip": 0.0, "crop_padding": 0}
IMAGE = torch.randint(
    0, 256, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
UNVARIED = normalise(IMAGE, IMAGENET_MEAN, IMAGENET_STD)


def vary(seed: int, **settings: object) -> torch.Tensor:
    transform = TrainTransform(AugmentationSettings.model_validate(PLAIN | settings), 32, 16)
    return transform(IMAGE, seed)


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
    assert all(image.shape == (3, 32, 16) for image in first)
    assert not all(torch.equal(image, UNVARIED) for image in first)
    assert not all(torch.equal(image, first[0]) for image in first)


def test_a_flip_mirrors_left_and_right() -> None:
    mirrored = UNVARIED.flip(-1)
    assert torch.equal(vary(0, flip=1.0), mirrored)
    found = [vary(seed, flip=0.5) for seed in range(12)]
    flipped = sum(torch.equal(image, mirrored) for image in found)
    assert flipped + sum(torch.equal(image, UNVARIED) for image in found) == 12
    assert 2 <= flipped <= 10


def test_a_crop_is_a_window_of_the_image_in_a_black_frame() -> None:
    framed = torch.nn.functional.pad(IMAGE, (4, 4, 4, 4))
    windows = {
        (y, x): normalise(framed[:, y : y + 32, x : x + 16], IMAGENET_MEAN, IMAGENET_STD)
        for y in range(9)
        for x in range(9)
    }
    places = []
    for seed in range(12):
        image = vary(seed, crop_padding=4)
        places += [place for place, window in windows.items() if torch.equal(window, image)]
    assert len(places) == 12
    assert len({y for y, _ in places}) > 3
    assert len({x for _, x in places}) > 3


def test_erasing_leaves_a_rectangle_of_the_mean_colour() -> None:
    for seed in range(12):
        image = vary(seed, erasing=1.0)
        erased = (image != UNVARIED).any(0)
        rows, columns = erased.any(1), erased.any(0)
        assert torch.equal(erased, rows[:, None] & columns)
        assert 0 < erased.float().mean() < 0.4
        assert torch.equal(image[:, erased], torch.zeros(3, int(erased.sum())))


def test_an_image_stays_as_it_is_without_any() -> None:
    assert torch.equal(vary(0), UNVARIED)


def test_the_share_of_images_that_auto_augment_is_drawn_for() -> None:
    settings = {"auto_augment": "trivialaugment", "auto_augment_probability": 0.25}
    drawn = [not torch.equal(vary(seed, **settings), UNVARIED) for seed in range(200)]
    # Some of the policy's operations change nothing.
    assert 0.12 < sum(drawn) / len(drawn) < 0.3


def test_hue_keeps_greys() -> None:
    grey = torch.full((3, 32, 16), 77, dtype=torch.uint8)
    transform = TrainTransform(AugmentationSettings(**PLAIN, hue_jitter=0.5), 32, 16)
    assert torch.equal(transform(grey, 3), normalise(grey, IMAGENET_MEAN, IMAGENET_STD))
