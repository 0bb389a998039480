"""A small tracker: detections of a frame are given to tracks by overlap, and by appearance.

It has two stages, as BoT-SORT (arXiv 2206.14651) and DeepSORT (arXiv 1703.07402) have: tracks and
detections that overlap are matched first, then those that look alike. It is meant to compare
embeddings with each other and with none, and leaves out what is the same for all of them: a Kalman
filter, the motion of the camera, a second look at detections of low confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.model_file import Embeddings
from reid_edge.tracking.mot_folder import BoxesOfFrames, Floats, Integers


@dataclass(frozen=True)
class AssociationSettings:
    """How detections are given to tracks.

    Attributes:
        least_overlap: IoU with the place where a track is expected, from which on a detection may
            be its next one.
        patience: frames that a track without a detection is kept.
        memory: weight of what a track looked like before in its moving average.
        smoothing: weight of a track's former velocity in its moving average.
    """

    least_overlap: float = 0.3
    patience: int = 60
    memory: float = 0.9
    smoothing: float = 0.7


@dataclass
class _Track:
    number: int
    box: Floats
    frame: int
    features: Embeddings | None
    velocity: Floats = field(default_factory=lambda: np.zeros(4))

    def expected_box(self, frame: int) -> Floats:
        return self.box + self.velocity * (frame - self.frame)

    def take(
        self, box: Floats, frame: int, features: Embeddings | None, how: AssociationSettings
    ) -> None:
        # A person's place changes steadily, the size of a box hardly: both corners move alike.
        step = (box - self.box).reshape(2, 2).mean(0) / (frame - self.frame)
        moved = how.smoothing * self.velocity[:2] + (1 - how.smoothing) * step
        # After the first step there is no former velocity yet.
        self.velocity = np.tile(moved if self.velocity.any() else step, 2)
        self.box, self.frame = box, frame
        if features is not None and self.features is not None:
            mixed = how.memory * self.features + (1 - how.memory) * features
            length = max(float(np.linalg.norm(mixed)), 1e-12)
            self.features = (mixed / length).astype(np.float32)


def associate(
    detections: BoxesOfFrames,
    embeddings: Embeddings | None = None,
    threshold: float = 1.0,
    settings: AssociationSettings | None = None,
) -> Integers:
    """Give every detection of a sequence to a track.

    Args:
        detections: of the sequence.
        embeddings: of each detection, of length 1, shape (N, D); None: overlap alone decides.
        threshold: lowest cosine similarity at which a detection is given to a track that it does
            not overlap, or that has had no detection in the frame before.
        settings: all else.

    Returns:
        Number of each detection's track, from 1, shape (N,).
    """
    how = settings or AssociationSettings()
    numbers = np.zeros(len(detections), dtype=np.int64)
    tracks: list[_Track] = []
    made = 0
    for frame in np.unique(detections.frames).tolist():
        tracks = [track for track in tracks if frame - track.frame <= how.patience]
        part = detections.places(frame)
        boxes = detections.boxes[part]
        features = None if embeddings is None else embeddings[part]
        of_detection: dict[int, _Track] = {}
        # Stage 1: what is where a track is expected; the more alike, the better.
        overlap = box_overlaps([track.expected_box(frame) for track in tracks], boxes)
        alike = None if features is None else _similarities(tracks, features)
        near = overlap - how.least_overlap
        gain, allowed = near, near >= 0
        if alike is not None:
            # Somebody else may stand where a track was lost.
            seen = np.array([frame - track.frame == 1 for track in tracks], dtype=bool)
            gain = near + alike.clip(min=0)
            allowed &= seen[:, None] | (alike >= threshold)
        _match(gain, allowed, tracks, of_detection)
        # Stage 2: what looks like a track that has not been found.
        if alike is not None:
            _match(alike - threshold, alike >= threshold, tracks, of_detection)
        for place in range(len(boxes)):
            own = None if features is None else features[place]
            track = of_detection.get(place)
            if track is None:
                made += 1
                track = _Track(made, boxes[place], frame, own)
                tracks.append(track)
            else:
                track.take(boxes[place], frame, own, how)
            numbers[part.start + place] = track.number
    return numbers


def box_overlaps(first: Floats | list[Floats], second: Floats) -> Floats:
    """Return the IoU of each of some boxes (N, 4) with each of others (M, 4), shape (N, M)."""
    one = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    two = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    common = sides.clip(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, two)]
    overlaps: Floats = common / (areas[0] + areas[1] - common)
    return overlaps


def _similarities(tracks: list[_Track], features: Embeddings) -> Floats:
    known = [track.features for track in tracks if track.features is not None]
    if not known:
        return np.zeros((0, len(features)))
    return (np.stack(known) @ features.T).astype(np.float64)


def _match(
    gain: Floats, allowed: NDArray[np.bool_], tracks: list[_Track], taken: dict[int, _Track]
) -> None:
    """Match tracks and detections that are not taken yet so that the sum of gains is largest."""
    from scipy.optimize import linear_sum_assignment

    used = {id(track) for track in taken.values()}
    rows = [row for row, track in enumerate(tracks) if id(track) not in used]
    columns = [column for column in range(gain.shape[1]) if column not in taken]
    if not rows or not columns:
        return
    free = allowed[np.ix_(rows, columns)]
    # A pair at the very limit is better than none.
    worth = np.where(free, gain[np.ix_(rows, columns)] + 1e-6, 0)
    for row, column in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        if free[row, column]:
            taken[columns[column]] = tracks[rows[row]]
