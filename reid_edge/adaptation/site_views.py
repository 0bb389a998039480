"""How far an image is from a changed copy of itself, and from other images of the site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from reid_edge.core.errors import DataError, ModelError
from reid_edge.core.progress import Progress
from reid_edge.core.seeding import derive_seed
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import load_image
from reid_edge.data.loaders import TrainingImages
from reid_edge.data.schema import Sample
from reid_edge.inference.features import Embed, embed_batches, embed_images
from reid_edge.metrics.distances import unit_length

BATCH = 64
# Of more images, so many are looked at.
MOST_IMAGES = 512
# Grey values of 255 by which images of one size differ, on average; JPEG's noise alone is 2.
LEAST_PIXEL_SPREAD = 4.0
# The mean of 1 - cosine between images. Models of persons have 0.3 to 0.6.
LEAST_DISTANCE = 0.02
# Distance of an image to a changed copy, as a share of that to other images. With many persons it
# is 0.35 to 0.54, with one person 0.62 and more (docs/results/adaptation.md).
LARGEST_RATIO = 0.58
# Another light, another crop, something in front: about what changes from camera to camera.
CHANGES = AugmentationSettings(flip=0.5, erasing=0.5, colour_jitter=0.4, hue_jitter=0.03)
PADDING_SHARE = 1 / 16  # of the height


@dataclass(frozen=True)
class Separation:
    """How a model tells images apart.

    Attributes:
        between: mean of 1 - cosine between two images.
        within: mean of 1 - cosine between an image and a changed copy.
    """

    between: float
    within: float

    @property
    def ratio(self) -> float:
        """Return the second as a share of the first."""
        return self.within / self.between

    @property
    def problem(self) -> str:
        """Return why the images are not of several persons, in a clause; empty if they may be."""
        if self.ratio <= LARGEST_RATIO:
            return ""
        return (
            f"an image differs from a changed copy of itself by {self.ratio:.0%} of what it "
            f"differs from other images (with many persons it is 35 to 54%, {LARGEST_RATIO:.0%} at "
            "most): these images show one person, or no persons"
        )


def embed_changed(
    model: Embed,
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Tensor:
    """Return the embeddings (N, D) of copies in another light and crop, a function of the seed.

    Args:
        model: see :func:`reid_edge.inference.features.embed_images`, like the others.
        images: of the site.
        height: rows of the input.
        width: columns of the input.
        seed: of the changes.
        device: where the model runs.
        progress: called with (images done, images in all).
    """
    changes = CHANGES.model_copy(update={"crop_padding": round(PADDING_SHARE * height)})
    numbered = [replace(image, person=index) for index, image in enumerate(images)]
    changed = TrainingImages(numbered, changes, height, width)

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            chosen = range(start, min(start + BATCH, len(images)))
            yield torch.stack([changed[i, derive_seed(seed, i)][0] for i in chosen])
            if progress is not None:
                progress(chosen.stop, len(images))

    return embed_batches(model, batches(), device=device)


def measure_separation(
    model: nn.Module,
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    seed: int,
    device: str = "cpu",
    most: int = MOST_IMAGES,
) -> Separation:
    """Measure how a model tells images apart, on some of them, evenly over all.

    Args:
        model: see :func:`embed_changed`, like the others.
        images: of the site.
        height: rows of the input.
        width: columns of the input.
        seed: of the changes.
        device: where the model runs.
        most: so many images are looked at.

    Raises:
        DataError: the images are all alike.
        ModelError: the embeddings of images that differ are all alike.
    """
    places = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)
    chosen = [images[place] for place in places]
    small = np.stack([load_image(image.path, 32, 16) for image in chosen]).astype(np.float32)
    pixel_spread = float(small.std(0).mean())
    if pixel_spread < LEAST_PIXEL_SPREAD:
        raise DataError(
            f"{images[0].path.parent}: the images are all alike (their pixels differ by "
            f"{pixel_spread:.1f} of 255); give images of many persons at many times"
        )
    plain = embed_images(model, chosen, height=height, width=width, device=device)
    unit = unit_length(plain)
    count = len(unit)
    total = float(unit.sum(0).double().square().sum())
    between = 1 - (total - count) / (count * (count - 1))
    if between < LEAST_DISTANCE:
        raise ModelError(
            f"the model gives nearly the same embedding for all of {count} different images (1 - "
            f"cosine {between:.4f} on average): it is untrained, damaged, or meant for other "
            "images; give another model"
        )
    changed = unit_length(
        embed_changed(model, chosen, height=height, width=width, seed=seed, device=device)
    )
    return Separation(between, float(1 - (unit * changed).sum(1).mean()))
