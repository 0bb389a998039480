"""What a data set is: pictures with a person and a camera, split into train, query and gallery."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid.errors import DataError
from reid.metrics.ranking import Protocol

# What is said of a set whose `ReidData.has_cameras` is false.
NO_CAMERAS = "no cameras: pictures of the same camera are not dropped"


@dataclass(frozen=True, order=True)
class Picture:
    """One picture of one person.

    Attributes:
        path: the file.
        person: identity as the data set numbers it.
        camera: camera as the data set numbers it.
    """

    path: Path
    person: int
    camera: int


@dataclass(frozen=True)
class ReidData:
    """A data set, split as person re-identification does.

    Attributes:
        root: the folder that holds the three splits.
        train: pictures to learn from.
        query: pictures to search with.
        gallery: pictures to search in.
        protocol: how the set is evaluated, see :func:`reid.metrics.evaluate_ranking`.
        has_cameras: whether the numbers of query and gallery are those of cameras; where a set
            has none, as sets of faces, they only keep pictures of a person apart (see
            :func:`reid.data.numbering.stand_in_cameras`).
    """

    root: Path
    train: tuple[Picture, ...]
    query: tuple[Picture, ...]
    gallery: tuple[Picture, ...]
    protocol: Protocol = "market1501"
    has_cameras: bool = True

    def pictures(self) -> list[Picture]:
        """Return the pictures of all three splits."""
        return [*self.train, *self.query, *self.gallery]


def relabel(pictures: Sequence[Picture]) -> list[int]:
    """Return a class from 0 to P - 1 for every picture, in the order of the identities."""
    classes = {person: index for index, person in enumerate(sorted({p.person for p in pictures}))}
    return [classes[picture.person] for picture in pictures]


def label_tensors(pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
    """Return the persons and the cameras of pictures, int64, each of shape (N,)."""
    persons = torch.tensor([picture.person for picture in pictures], dtype=torch.int64)
    cameras = torch.tensor([picture.camera for picture in pictures], dtype=torch.int64)
    return persons, cameras


def count_persons(pictures: Sequence[Picture]) -> int:
    """Return the number of identities."""
    return len({picture.person for picture in pictures})


def check_trainable(data: ReidData) -> None:
    """Check that there is something to train on.

    Raises:
        DataError: there are no training pictures.
    """
    if not data.train:
        raise DataError(
            f"{data.root}: no training pictures, and every run trains or calibrates on some (in "
            "the Market-1501 layout those of bounding_box_train); a model is measured on a test "
            "set alone with: python -m reid evaluate"
        )


def check_evaluable(data: ReidData) -> None:
    """Check that the Market-1501 protocol leaves at least one query with a match.

    Raises:
        DataError: query or gallery is empty, or no query has a match from another camera.
    """
    for name, split in (("query", data.query), ("gallery", data.gallery)):
        if not split:
            raise DataError(
                f"{data.root}: the {name} split has no pictures; "
                "python -m reid prepare sets identities apart to test on where a set has none"
            )
    cameras: dict[int, set[int]] = {}
    for picture in data.gallery:
        cameras.setdefault(picture.person, set()).add(picture.camera)
    if any(cameras.get(query.person, set()) - {query.camera} for query in data.query):
        return
    used = {picture.camera for picture in (*data.query, *data.gallery)}
    cause = (
        f"all pictures have camera {used.pop()}; give each camera its own number in the file names"
        if len(used) == 1
        else "the identities of query and gallery do not meet on different cameras"
    )
    raise DataError(f"{data.root}: no query has a match on another camera: {cause}")


def choose_over_cameras(pictures: Sequence[Picture], count: int, seed: int) -> list[Picture]:
    """Draw pictures evenly over the cameras.

    Args:
        pictures: where to draw from.
        count: how many; all are returned when there are fewer.
        seed: the draw is a function of it.

    Returns:
        The drawn pictures, cameras in turn.
    """
    generator = np.random.default_rng(seed)
    by_camera: dict[int, list[Picture]] = {}
    for picture in sorted(pictures):
        by_camera.setdefault(picture.camera, []).append(picture)
    queues = [
        [members[i] for i in generator.permutation(len(members))]
        for _, members in sorted(by_camera.items())
    ]
    chosen: list[Picture] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop())
    return chosen
