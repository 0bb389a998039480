"""What is known of a site's images beyond their pixels: cameras, tracks, tracks seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from reid_edge.core.errors import DataError
from reid_edge.data.schema import ReidData, Sample

IntegerRow = npt.NDArray[np.int64]
NO_TRACK = -1


@dataclass(frozen=True)
class Site:
    """The knowledge about a sequence of images, all arrays of shape (images,).

    Attributes:
        cameras: camera of each image; None: not known.
        tracks: track of each image, -1 where there is none; None: no image has one. Images of one
            track show one person for sure.
        apart: pairs of tracks that are seen at the same time, so that they are two persons for
            sure; each with the smaller number first.
    """

    cameras: IntegerRow | None = None
    tracks: IntegerRow | None = None
    apart: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        known = [row for row in (self.cameras, self.tracks) if row is not None]
        if len({len(row) for row in known}) > 1:
            raise DataError(
                f"cameras of {len(known[0])} images and tracks of {len(known[1])}: expected as many"
            )

    def take(self, chosen: Sequence[int] | IntegerRow) -> Site:
        """Return what is known of some of the images, in the order of ``chosen``."""
        index = np.asarray(chosen, dtype=np.int64)
        return Site(
            cameras=None if self.cameras is None else self.cameras[index],
            tracks=None if self.tracks is None else self.tracks[index],
            apart=self.apart,
        )

    def track_of(self, count: int) -> IntegerRow:
        """Return the track of each of ``count`` images, -1 where there is none."""
        if self.tracks is None:
            return np.full(count, NO_TRACK, dtype=np.int64)
        return self.tracks

    def conflict(self, first: int, second: int) -> bool:
        """Return whether two tracks are of two persons for sure."""
        return (min(first, second), max(first, second)) in self.apart


def site_of(images: Sequence[Sample], data: ReidData) -> Site:
    """Return what a data set says of some of its images, except who is in them.

    Tracks of one camera that have images of one frame are of two persons.

    Args:
        images: of the data set.
        data: says whether there are cameras and tracks.
    """
    cameras = np.array([image.camera for image in images], dtype=np.int64)
    if data.labels != "tracks":
        return Site(cameras=cameras if data.has_cameras else None)
    at_once: dict[tuple[int, int], set[int]] = {}
    for image in images:
        if image.frame is not None:
            at_once.setdefault((image.camera, image.frame), set()).add(image.person)
    return Site(
        cameras=cameras if data.has_cameras else None,
        tracks=np.array([image.person for image in images], dtype=np.int64),
        apart=frozenset(
            pair for tracks in at_once.values() for pair in combinations(sorted(tracks), 2)
        ),
    )
