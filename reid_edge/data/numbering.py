"""Numbers for identities and cameras that a data set names with words."""

from collections.abc import Iterable
from pathlib import Path


def number_names(names: Iterable[str]) -> dict[str, int]:
    """Give every name a number of its own, the same on every machine.

    Names that are numbers keep them (``"0002"`` is 2), unless two names are the same number or one
    has ten digits or more. Otherwise the names are numbered from 1 in the order of sorting.
    """
    ordered = sorted(set(names))
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in ordered):
        numbers = {name: int(name) for name in ordered}
        if len(set(numbers.values())) == len(ordered):
            return numbers
    return {name: number for number, name in enumerate(ordered, start=1)}


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
        for camera, path in enumerate(sorted(paths), start=1)
    }
