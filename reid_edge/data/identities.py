"""The identities and cameras of data sets: merged, stood in for, and set apart for a test."""

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.data.paths import path_order
from reid_edge.data.schema import ReidData, Sample, relabel, sort_images


def stand_in_cameras(images: Iterable[tuple[int, Path]]) -> dict[Path, int]:
    """Number cameras where a data set has none: no two images of a person share one.

    The Market-1501 protocol drops gallery images of the query's person and camera. Without
    cameras nothing is to be dropped but the query's own image, where it is in the gallery too.
    This is the rule of face sets, where every image counts as taken on its own.

    Args:
        images: (person, path) of all splits together.

    Returns:
        Camera by path: 1, 2, ... among the images of each person.
    """
    by_person: dict[int, set[Path]] = {}
    for person, path in images:
        by_person.setdefault(person, set()).add(path)
    return {
        path: camera
        for paths in by_person.values()
        for camera, path in enumerate(sorted(paths, key=path_order), start=1)
    }


def merge_training(training: Sequence[ReidData], test: ReidData) -> ReidData:
    """Merge the training sets of several data sets, and test on any one.

    Identities and cameras of different sets are different ones: they get new numbers, set after
    set, above the numbers of the test set, so that no number means two people. Market-1501,
    DukeMTMC-reID and CUHK03 are trained on together in this way.

    Args:
        training: their training images are taken, in this order.
        test: its query and gallery are taken, as they are; it may be one of ``training``.

    Raises:
        DataError: there is nothing to train on, or an image is in two of the sets: it would be of
            two persons.
    """
    tested = (*test.query, *test.gallery)
    _check_disjoint(training, tested)
    person = 1 + max((image.person for image in tested), default=0)
    camera = 1 + max((image.camera for image in tested), default=0)
    merged: list[Sample] = []
    for data in training:
        cameras = sorted({image.camera for image in data.train})
        numbers = {old: camera + index for index, old in enumerate(cameras)}
        classes = relabel(data.train)
        merged.extend(
            Sample(image.path, person + added, numbers[image.camera])
            for image, added in zip(data.train, classes, strict=True)
        )
        person, camera = person + max(classes, default=-1) + 1, camera + len(cameras)
    if not merged:
        raise DataError("none of the data sets to merge has images to train on")
    return replace(test, train=tuple(merged))


def _check_disjoint(training: Sequence[ReidData], tested: Sequence[Sample]) -> None:
    """Refuse an image that two data sets train on, or that one trains on and another tests."""
    real = functools.cache(os.path.realpath)
    seen: dict[tuple[str, str], str] = {
        (real(image.path.parent), image.path.name): "tested on" for image in tested
    }
    for data in training:
        for place in {(real(image.path.parent), image.path.name) for image in data.train}:
            if place in seen:
                raise DataError(
                    f"{Path(*place)}: would be trained on as a new person, and is "
                    f"{seen[place]} as well; name each folder of images once"
                )
            seen[place] = "trained on"


def split_by_identity(data: ReidData, share: float, seed: int) -> ReidData:
    """Set identities of the training set apart, to validate or to test on.

    The query is one image of each identity on each camera, as in Market-1501, and the gallery the
    rest. If a camera has only one image of an identity, that image goes to the gallery, so that the
    queries of the other cameras find it. If all cameras of an identity have only one, as in a set
    without cameras, the query is one image of the identity. Every query has a match on another
    camera: all images of an identity that is on one camera only go to the gallery.

    Args:
        data: its training set is divided; its query and gallery are not looked at.
        share: of the identities, above 0 and below 1; at least one is set apart and one is left.
        seed: the draw is a function of it.

    Returns:
        The same data with the rest of the training set, and query and gallery of what was set
        apart.

    Raises:
        DataError: the share is out of range, there are too few identities, or none that is set
            apart is on two cameras.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of identities must be between 0 and 1, not {share}")
    by_person: dict[int, list[Sample]] = {}
    for image in sort_images(data.train):
        by_person.setdefault(image.person, []).append(image)
    persons = sorted(by_person)
    if len(persons) < 2:
        raise DataError(
            f"{data.root}: {len(persons)} identities cannot be split in two; where all images have "
            "one identity, the set is unlabelled: give each person a number or folder"
        )
    if all(len(members) == 1 for members in by_person.values()):
        raise DataError(
            f"{data.root}: every image has an identity of its own, so the set is unlabelled: give "
            "the images of a person the same number or folder"
        )
    count = min(max(1, round(share * len(persons))), len(persons) - 1)
    generator = np.random.default_rng(seed)
    chosen = {persons[index] for index in generator.permutation(len(persons))[:count]}
    query: list[Sample] = []
    for person in sorted(chosen):
        by_camera: dict[int, list[Sample]] = {}
        for image in by_person[person]:
            by_camera.setdefault(image.camera, []).append(image)
        if len(by_camera) < 2:
            continue
        # With one image a camera, one query has to do: each more would take a match from the
        # others.
        plenty = [members for members in by_camera.values() if len(members) > 1]
        for members in plenty or [by_person[person]]:
            query.append(members[int(generator.integers(len(members)))])
    if not query:
        raise DataError(
            f"{data.root}: none of the {count} identities set apart is on two cameras, so no query "
            "would have a match; set a greater share apart"
        )
    queries = set(query)
    apart = [image for person in chosen for image in by_person[person]]
    return replace(
        data,
        train=tuple(image for image in data.train if image.person not in chosen),
        query=tuple(sorted(query)),
        gallery=tuple(sort_images(image for image in apart if image not in queries)),
    )
