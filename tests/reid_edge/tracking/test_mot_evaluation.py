"""IDF1, HOTA, identity switches and the curve of gaps equal what is computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from reid_edge.core.errors import DataError
from reid_edge.inference.frames import Embedder
from reid_edge.tracking.gap_curve import gap_curve, identities_of
from reid_edge.tracking.mot_evaluation import Tracked, evaluate_mot
from reid_edge.tracking.mot_folder import read_mot_folder, read_sequence
from tests.reid_edge.tracking.sequences import (
    LEFT,
    RIGHT,
    save_colour_model,
    swapped_places,
    write_images,
    write_sequence,
)

pytest.importorskip("trackeval")
from reid_edge.tracking.scores import TrackScorer

MODEL = "colour.onnx"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    root = tmp_path_factory.mktemp("hand")
    swapped_places(root / "HAND-01")
    model = save_colour_model(root / MODEL)
    return evaluate_mot(root, read_mot_folder(root), [Embedder(model)])


def test_persons_who_changed_places(tracked: Tracked) -> None:
    control, (by_colour,) = tracked.result.control, tracked.result.models
    # 16 boxes, all detected in their place: DetA 1. Each identity is 4 boxes of the one track and
    # 4 of the other: 8 of 16 boxes are of the identity's own track, and each switches once. Of a
    # box 4 are matched with its track, 4 more are the identity's and 4 the track's: AssA 4 / 12.
    scores = control.scores
    assert scores.idf1 == pytest.approx(8 / (8 + 0.5 * 8 + 0.5 * 8))
    assert scores.detection_accuracy == pytest.approx(1)
    assert scores.association_accuracy == pytest.approx(4 / 12)
    assert scores.hota == pytest.approx((1 * 4 / 12) ** 0.5)
    assert scores.mota == pytest.approx(1 - 2 / 16)
    assert (scores.identity_switches, scores.identities, scores.tracks) == (2, 2, 2)
    assert (control.model, control.threshold, control.thresholds) == ("IoU alone", None, ())
    assert control.by_sequence == {"HAND-01": scores}

    scores = by_colour.scores
    assert (scores.idf1, scores.identity_switches, scores.tracks) == (1, 0, 2)
    assert scores.hota == pytest.approx(1)
    # Red and blue have a cosine of 0: every threshold does, and the highest is the safest.
    assert by_colour.threshold == 0.95
    assert [point.idf1 for point in by_colour.thresholds] == [1] * 14
    assert by_colour.thresholds[0].threshold == 0.3


def test_the_curve_of_gaps(tracked: Tracked) -> None:
    control, (by_colour,) = tracked.result.control, tracked.result.models
    # Frames 1 to 4 and 9 to 12: six pairs are 1 apart, one is 5 apart (4 and 9), two persons each.
    assert [(point.gap, point.persons) for point in control.gaps] == [
        (1, 12), (5, 2), (15, 0), (30, 0), (60, 0), (120, 0),
    ]  # fmt: skip
    assert [point.found for point in control.gaps] == [1, 0, None, None, None, None]
    assert [point.found for point in by_colour.gaps] == [1, 1, None, None, None, None]


def test_a_missed_box_and_a_false_one(tmp_path: Path) -> None:
    truth = [(frame, 1, *LEFT, 1, 1, 1) for frame in (1, 2, 3, 4)]
    detections = [(frame, -1, *LEFT, 1) for frame in (1, 2, 4)] + [(2, -1, *RIGHT, 1)]
    sequence = _sequence(tmp_path, 4, truth, detections)
    scores, _ = TrackScorer([sequence]).score([np.array([1, 1, 2, 1])])
    # 3 of 4 boxes, and 1 false one: 3 of 5. The track has 3 of the identity's 4 boxes.
    assert scores.idf1 == pytest.approx(3 / (3 + 0.5 * 1 + 0.5 * 1))
    assert scores.detection_accuracy == pytest.approx(3 / 5)
    assert scores.association_accuracy == pytest.approx(3 / 4)
    assert scores.hota == pytest.approx((3 / 5 * 3 / 4) ** 0.5)
    assert (scores.mota, scores.identity_switches) == (pytest.approx(1 - 2 / 4), 0)
    assert TrackScorer([sequence]).idf1([np.array([1, 1, 2, 1])]) == scores.idf1


def test_hota_counts_how_well_boxes_fit(tmp_path: Path) -> None:
    truth = [(frame, 1, *LEFT, 1, 1, 1) for frame in (1, 2)]
    left, top, width, height = LEFT
    # Half as high: an overlap of 0.5, which is enough for 10 of the 19 limits of 0.05 to 0.95.
    detections = [(frame, -1, left, top, width, height / 2, 1) for frame in (1, 2)]
    sequence = _sequence(tmp_path, 2, truth, detections)
    scores, _ = TrackScorer([sequence]).score([np.array([1, 1])])
    assert scores.hota == pytest.approx(10 / 19)
    assert scores.idf1 == 1


def test_several_sequences_are_added_up(tmp_path: Path) -> None:
    box = [(1, 1, *LEFT, 1, 1, 1), (2, 1, *LEFT, 1, 1, 1)]
    detections = [(1, -1, *LEFT, 1), (2, -1, *LEFT, 1)]
    sequences = [_sequence(tmp_path / name, 2, box, detections) for name in ("a", "b")]
    scores, parts = TrackScorer(sequences).score([np.array([1, 1]), np.array([1, 2])])
    # 2 boxes of the first sequence and 1 of the second: 3 of 4.
    assert scores.idf1 == pytest.approx(3 / 4)
    assert (scores.identity_switches, scores.identities, scores.tracks) == (1, 2, 3)
    assert {name: part.idf1 for name, part in parts.items()} == {"a": 1, "b": 0.5}
    assert (parts["a"].hota, parts["b"].identity_switches) == (pytest.approx(1), 1)


def test_what_does_not_count(tmp_path: Path) -> None:
    distractor, ignored = 8, (1, 3, 21, 9, 16, 32, 0, 1, 1)
    truth = [(1, 1, *LEFT, 1, 1, 1), (1, 2, *RIGHT, 1, distractor, 1), ignored]
    detections = [(1, -1, *LEFT, 1), (1, -1, *RIGHT, 1)]
    sequence = _sequence(tmp_path, 1, truth, detections)
    scores, _ = TrackScorer([sequence]).score([np.array([1, 2])])
    assert (scores.idf1, scores.identities, scores.tracks) == (1, 1, 1)
    assert identities_of(sequence, sequence.detections).tolist() == [1, -1]


def test_ground_truth_without_classes(tmp_path: Path) -> None:
    """As MOT15 has it."""
    truth = [(1, 1, *LEFT, 1, -1, -1, -1), (1, 2, *RIGHT, 1, -1, -1, -1)]
    sequence = _sequence(tmp_path, 1, truth, [(1, -1, *LEFT, 1), (1, -1, *RIGHT, 1)])
    assert TrackScorer([sequence]).idf1([np.array([1, 2])]) == 1
    assert identities_of(sequence, sequence.detections).tolist() == [1, 2]


def test_a_class_that_there_is_not(tmp_path: Path) -> None:
    sequence = _sequence(tmp_path, 1, [(1, 1, *LEFT, 1, 99, 1)], [(1, -1, *LEFT, 1)])
    with pytest.raises(DataError, match=r"TrackEval: TrackEvalException: Attempting to evaluate"):
        TrackScorer([sequence]).idf1([np.array([1])])


def test_detections_above_a_confidence(tmp_path: Path) -> None:
    folder = tmp_path / "HAND-02"
    truth = [(1, 1, *LEFT, 1, 1, 1), (2, 1, *LEFT, 1, 1, 1)]
    detections = [(1, -1, *LEFT, 0.9), (2, -1, *LEFT, 0.9), (2, -1, *RIGHT, 0.2)]
    write_sequence(folder, 2, truth, detections)
    write_images(folder, 2, {1: [(LEFT, (9, 9, 9))], 2: [(LEFT, (9, 9, 9))]})
    sequences = read_mot_folder(folder)
    embedders = [Embedder(save_colour_model(tmp_path / MODEL))]
    tracked = evaluate_mot(folder, sequences, embedders, min_confidence=0.5)
    assert (tracked.result.sequences[0].detections, tracked.result.control.scores.idf1) == (2, 1)
    with pytest.raises(DataError, match=r"HAND-02: no detection of confidence 0\.95 or above"):
        evaluate_mot(folder, sequences, embedders, min_confidence=0.95)


def test_files(tracked: Tracked, tmp_path: Path) -> None:
    tracked.write(tmp_path)
    assert json.loads((tmp_path / "tracking.json").read_text()) == tracked.result.to_dict()
    lines = (tmp_path / "tracks" / "model-1" / "HAND-01.txt").read_text().splitlines()
    assert lines[0] == "1,1,5.00,9.00,16.00,32.00,0.9000,-1,-1,-1"
    # Red is track 1 in both places.
    assert lines[-2] == "12,1,41.00,9.00,16.00,32.00,0.9000,-1,-1,-1"
    by_overlap = (tmp_path / "tracks" / "iou" / "HAND-01.txt").read_text().splitlines()
    assert by_overlap[-2] == "12,2,41.00,9.00,16.00,32.00,0.9000,-1,-1,-1"


def test_a_gap_between_frames_with_one_person_does_not_count(tmp_path: Path) -> None:
    truth = [(1, 1, *LEFT, 1, 1, 1), (2, 1, *LEFT, 1, 1, 1)]
    sequence = _sequence(tmp_path, 2, truth, [(1, -1, *LEFT, 1), (2, -1, *LEFT, 1)])
    (point,) = gap_curve([sequence.detections], [np.array([1, 1])], None, gaps=(1,))
    assert (point.persons, point.found) == (0, None)


def _sequence(folder: Path, length: int, truth: list, detections: list) -> object:
    """Write a sequence whose images nothing looks at, and read it."""
    write_sequence(folder, length, truth, detections)
    (folder / "img1").mkdir()
    for frame in range(1, length + 1):
        (folder / "img1" / f"{frame:06d}.png").touch()
    return read_sequence(folder)
