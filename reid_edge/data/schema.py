"""What a data set is: images with a person and a camera, split into train, query and gallery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from reid_edge.core.errors import DataError
from reid_edge.data.paths import path_order

if TYPE_CHECKING:
    from torch import Tensor

# How a data set is evaluated, see `reid_edge.metrics.evaluate_ranking`.
Protocol = Literal["market1501", "single_gallery_shot"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
# What `Sample.person` is a number of.
Labels = Literal["persons", "tracks", "none"]
# The note on a set whose `ReidData.has_cameras` is false.
NO_CAMERAS = "no cameras: images of the same camera are not dropped"


@dataclass(frozen=True, order=True, slots=True)
class Sample:
    """One image of one person.

    Attributes:
        path: the file.
        person: identity as the data set numbers it; without identities the track of one camera, or
            0, see `ReidData.labels`.
        camera: camera as the data set numbers it.
        frame: number of the frame that it was cut out of, where that is known.
    """

    path: Path
    person: int
    camera: int
    frame: int | None = None


def sort_images(images: Iterable[Sample]) -> list[Sample]:
    """Sort images as `sorted` does, in less time."""
    return sorted(
        images,
        key=lambda image: (path_order(image.path), image.person, image.camera, image.frame or 0),
    )


@dataclass(frozen=True)
class ReidData:
    """A data set, split as person re-identification does.

    Attributes:
        root: the folder that holds the three splits.
        train: images to learn from.
        query: images to search with.
        gallery: images to search in.
        protocol: how the set is evaluated, see :func:`reid_edge.metrics.evaluate_ranking`.
        has_cameras: whether the numbers of query and gallery are those of cameras; where a set
            has none, as sets of faces, they only keep images of a person apart (see
            :func:`reid_edge.data.identities.stand_in_cameras`).
        junk: how many images of junk (person -1) were found and left out.
        notes: what may be a mistake in how persons and cameras are written.
        labels: what the persons of the images are: "persons"; "tracks", of which several may be of
            one person; or "none", when all are 0. Without persons, ``query`` has the images that
            are set apart for measuring, and ``gallery`` is empty.
    """

    root: Path
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    protocol: Protocol = "market1501"
    has_cameras: bool = True
    junk: int = 0
    notes: tuple[str, ...] = ()
    labels: Labels = "persons"

    def images(self) -> list[Sample]:
        """Return the images of all three splits."""
        return [*self.train, *self.query, *self.gallery]


@dataclass(frozen=True)
class Counts:
    """How many images and identities a data set has.

    Attributes:
        train: images to train on.
        train_identities: their identities.
        query: queries.
        query_identities: their identities.
        gallery: images of the gallery, without junk.
    """

    train: int
    train_identities: int
    query: int = 0
    query_identities: int = 0
    gallery: int = 0

    @classmethod
    def of(cls, data: ReidData) -> Counts:
        """Count a data set."""
        trained, asked = count_persons(data.train), count_persons(data.query)
        return cls(len(data.train), trained, len(data.query), asked, len(data.gallery))

    def __str__(self) -> str:
        """Give the counts in words; without a test set only those of the training set."""
        text = f"{self.train:,} training images of {self.train_identities:,} identities"
        if not (self.query or self.gallery):
            return text
        return (
            f"{text}, {self.query:,} queries of {self.query_identities:,}, "
            f"{self.gallery:,} gallery images"
        )


def relabel(images: Sequence[Sample]) -> list[int]:
    """Return a class from 0 to P - 1 for every image, in the order of the identities."""
    classes = {person: index for index, person in enumerate(sorted({p.person for p in images}))}
    return [classes[image.person] for image in images]


def label_tensors(images: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Return the persons and the cameras of images, int64, each of shape (N,)."""
    import torch  # not at the top: data sets can be read without it

    persons = torch.tensor([image.person for image in images], dtype=torch.int64)
    cameras = torch.tensor([image.camera for image in images], dtype=torch.int64)
    return persons, cameras


def count_persons(images: Sequence[Sample]) -> int:
    """Return the number of identities."""
    return len({image.person for image in images})


def check_trainable(data: ReidData) -> None:
    """Check that there is something to train on.

    Raises:
        DataError: there are no training images.
    """
    if not data.train:
        raise DataError(
            f"{data.root}: no training images, and every run trains or calibrates on some (in "
            "the Market-1501 layout those of bounding_box_train); a model is measured on a test "
            "set alone with: reid-edge evaluate"
        )


def check_evaluable(data: ReidData) -> None:
    """Check that the Market-1501 protocol leaves at least one query with a match.

    Raises:
        DataError: query or gallery is empty, or no query has a match from another camera. Or the
            images have no identities.
    """
    if data.labels != "persons":
        raise DataError(
            f"{data.root}: the images have no identities, so that no accuracy can be measured; a "
            "run measures without labels (docs/guide/without-labels.md)"
        )
    for name, split in (("query", data.query), ("gallery", data.gallery)):
        if not split:
            raise DataError(
                f"{data.root}: the {name} split has no images; "
                "reid-edge prepare sets identities apart to test on where a set has none"
            )
    cameras: dict[int, set[int]] = {}
    for image in data.gallery:
        cameras.setdefault(image.person, set()).add(image.camera)
    if any(cameras.get(query.person, set()) - {query.camera} for query in data.query):
        return
    used = {image.camera for image in (*data.query, *data.gallery)}
    cause = (
        f"all images have camera {used.pop()}; give each camera its own number in the file names"
        if len(used) == 1
        else "the identities of query and gallery do not meet on different cameras"
    )
    raise DataError(f"{data.root}: no query has a match on another camera: {cause}")


def choose_over_cameras(images: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Draw images evenly over the cameras.

    Args:
        images: where to draw from.
        count: how many; all are returned when there are fewer.
        seed: the draw is a function of it.

    Returns:
        The drawn images, cameras in turn.
    """
    import numpy as np  # the commands import this module for their help texts

    generator = np.random.default_rng(seed)
    by_camera: dict[int, list[Sample]] = {}
    for image in sort_images(images):
        by_camera.setdefault(image.camera, []).append(image)
    queues = [
        [members[i] for i in generator.permutation(len(members))]
        for _, members in sorted(by_camera.items())
    ]
    chosen: list[Sample] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop())
    return chosen
