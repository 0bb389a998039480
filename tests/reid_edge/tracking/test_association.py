"""Which detections become one track."""

import numpy as np
import pytest

from reid_edge.tracking.association import AssociationSettings, associate, box_overlaps
from reid_edge.tracking.mot_folder import BoxesOfFrames

PATIENCE = AssociationSettings().patience
FIRST, SECOND = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def of_frames(rows: list[tuple[int, float, float]]) -> BoxesOfFrames:
    """Boxes of 10 x 20 pixels: frame, left and top of each."""
    frames = np.array([row[0] for row in rows], dtype=np.int64)
    corner = np.array([row[1:] for row in rows], dtype=np.float64)
    boxes = np.concatenate([corner, corner + np.array([10, 20])], axis=1)
    nothing = np.full(len(rows), -1)
    return BoxesOfFrames(frames, boxes, np.ones(len(rows)), nothing, nothing)


def test_overlaps_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 0, 15, 20], [10, 0, 20, 20], [0, 10, 10, 30]])
    # Half of each: 100 of 300; touching: nothing.
    expected = [[1, 1 / 3, 0, 1 / 3], [1 / 3, 1, 1 / 3, 50 / 350]]
    assert box_overlaps(boxes[:2], boxes) == pytest.approx(np.array(expected))
    assert box_overlaps([], boxes).shape == (0, 4)


def test_overlap_alone() -> None:
    rows = [(frame, 2 * frame, 0) for frame in range(1, 9)]
    rows += [(frame, 100 - 2 * frame, 0) for frame in range(1, 9)]
    rows.sort()
    assert associate(of_frames(rows)).tolist() == [1, 2] * 8
    # 8 pixels to the side leave an overlap of 2 / 18.
    assert associate(of_frames([(1, 0, 0), (2, 8, 0)])).tolist() == [1, 2]


def test_a_track_is_expected_where_it_was_going() -> None:
    # Hidden for 9 frames, 3 pixels each.
    rows = [(frame, 3 * frame, 0) for frame in (1, 2, 3, 4, 14)]
    assert associate(of_frames(rows)).tolist() == [1] * 5
    rows[-1] = (14, 12, 0)  # where it was seen last
    assert associate(of_frames(rows)).tolist() == [1, 1, 1, 1, 2]


def test_a_track_is_forgotten() -> None:
    standing = [(1, 0.0, 0.0), (2, 0.0, 0.0)]
    assert associate(of_frames([*standing, (2 + PATIENCE, 0, 0)])).tolist() == [1, 1, 1]
    assert associate(of_frames([*standing, (3 + PATIENCE, 0, 0)])).tolist() == [1, 1, 2]
    short = AssociationSettings(patience=1)
    assert associate(of_frames([*standing, (4, 0, 0)]), settings=short).tolist() == [1, 1, 2]


def test_who_looks_alike_is_found_elsewhere() -> None:
    boxes = of_frames([(1, 0, 0), (2, 0, 0), (9, 200, 0)])
    same = np.stack([FIRST, FIRST, 0.8 * FIRST + 0.6 * SECOND]).astype(np.float32)
    assert associate(boxes, same, 0.79).tolist() == [1, 1, 1]
    assert associate(boxes, same, 0.81).tolist() == [1, 1, 2]
    assert associate(boxes).tolist() == [1, 1, 2]


def test_somebody_else_at_the_place_where_a_track_was_lost() -> None:
    boxes = of_frames([(1, 0, 0), (2, 0, 0), (5, 0, 0), (6, 0, 0)])
    looks = np.stack([FIRST, FIRST, SECOND, SECOND]).astype(np.float32)
    assert associate(boxes, looks, 0.5).tolist() == [1, 1, 2, 2]
    assert associate(boxes).tolist() == [1, 1, 1, 1]
    # From frame to frame a track goes on however a person looks: something may hide them.
    boxes = of_frames([(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)])
    assert associate(boxes, looks, 0.5).tolist() == [1, 1, 1, 1]


def test_looks_decide_between_two_who_overlap() -> None:
    # Both overlap both; the nearer box is the other person's.
    boxes = of_frames([(1, 0, 0), (1, 4, 0), (2, 1, 0), (2, 3, 0)])
    looks = np.stack([FIRST, SECOND, SECOND, FIRST]).astype(np.float32)
    assert associate(boxes).tolist() == [1, 2, 1, 2]
    assert associate(boxes, looks, 0.5).tolist() == [1, 2, 2, 1]


def test_a_crop_without_an_embedding_is_like_nobody() -> None:
    boxes = of_frames([(1, 0, 0), (2, 0, 0), (9, 200, 0), (10, 200, 0)])
    looks = np.stack([FIRST, 0 * FIRST, 0 * FIRST, 0 * FIRST]).astype(np.float32)
    numbers = associate(boxes, looks, 0.3)
    assert numbers.tolist() == [1, 1, 2, 2]


def test_no_detections() -> None:
    empty = BoxesOfFrames(
        np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )  # fmt: skip
    assert associate(empty).tolist() == []
    assert associate(empty, np.zeros((0, 2), np.float32)).tolist() == []
