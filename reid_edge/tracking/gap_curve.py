"""How often a person is found again after a gap, by the length of the gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid_edge.core.model_file import Embeddings
from reid_edge.metrics.results import Result
from reid_edge.tracking.association import box_overlaps
from reid_edge.tracking.mot_folder import (
    NO_CLASS,
    PEDESTRIAN,
    BoxesOfFrames,
    Integers,
    MotSequence,
)

# In frames.
GAPS = (1, 5, 15, 30, 60, 120)
# The overlap from which on MOTChallenge counts a detection as a person's.
SAME_PLACE = 0.5
UNKNOWN = -1


class GapPoint(Result):
    """Persons found again after a gap.

    Attributes:
        gap: frames from the one detection to the other.
        persons: that are detected in both frames, over all pairs of frames.
        found: share of them for whom the most similar detection of the later frame is their own;
            None where there are no persons.
    """

    gap: int
    persons: int
    found: float | None


def identities_of(sequence: MotSequence, detections: BoxesOfFrames) -> Integers:
    """Return the identity of each detection, -1 where it fits no pedestrian of the ground truth."""
    from scipy.optimize import linear_sum_assignment

    truth = sequence.truth
    counts = np.isin(truth.classes, (PEDESTRIAN, NO_CLASS)) & (truth.scores != 0)
    identities = np.full(len(detections), UNKNOWN, dtype=np.int64)
    for frame in np.unique(detections.frames).tolist():
        here, there = detections.places(frame), truth.places(frame)
        overlaps = box_overlaps(detections.boxes[here], truth.boxes[there])
        overlaps[:, ~counts[there]] = 0
        overlaps[overlaps < SAME_PLACE] = 0
        for row, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
            if overlaps[row, column] > 0:
                identities[here.start + row] = truth.identities[there.start + column]
    return identities


def gap_curve(
    detections: Sequence[BoxesOfFrames],
    identities: Sequence[Integers],
    embeddings: Sequence[Embeddings] | None,
    gaps: Sequence[int] = GAPS,
) -> list[GapPoint]:
    """Measure how often a person is found again after a gap.

    A person who is detected in two frames is looked for in the later one, among all persons there,
    by one detection of each frame. Pairs of frames with one person in the later one do not count.

    Args:
        detections: of each sequence.
        identities: of each sequence's detections, -1 where it is not known.
        embeddings: of each sequence's detections, of length 1; None: the overlap of both boxes
            decides, and a person is not found where there is none.
        gaps: in frames.
    """
    return [_measure(gap, detections, identities, embeddings) for gap in gaps]


def _measure(
    gap: int,
    detections: Sequence[BoxesOfFrames],
    identities: Sequence[Integers],
    embeddings: Sequence[Embeddings] | None,
) -> GapPoint:
    persons = found = 0
    for number, boxes in enumerate(detections):
        known = identities[number] != UNKNOWN
        frames = np.unique(boxes.frames)
        for frame in frames[np.isin(frames + gap, frames)].tolist():
            first, second = (
                np.flatnonzero(known[part]) + part.start
                for part in (boxes.places(frame), boxes.places(frame + gap))
            )
            if len(first) == 0 or len(second) < 2:
                continue
            if embeddings is None:
                alike = box_overlaps(boxes.boxes[first], boxes.boxes[second])
            else:
                features = embeddings[number]
                alike = (features[first] @ features[second].T).astype(np.float64)
            names, later = identities[number][first], identities[number][second]
            again = np.isin(names, later)
            hit = later[alike.argmax(1)] == names
            if embeddings is None:
                hit &= alike.max(1) > 0  # boxes without an overlap are all equally unlike
            persons += int(again.sum())
            found += int((hit & again).sum())
    return GapPoint(gap=gap, persons=persons, found=found / persons if persons else None)
