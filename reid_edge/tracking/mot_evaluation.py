"""What a model does to tracking: IDF1, HOTA and identity switches with given detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.core.io import write_bytes
from reid_edge.core.model_file import Embeddings
from reid_edge.core.progress import Progress, StartProgress, no_progress
from reid_edge.data.decoding import read_image
from reid_edge.inference.frames import Embedder
from reid_edge.metrics.results import Result
from reid_edge.tracking.association import AssociationSettings, associate
from reid_edge.tracking.gap_curve import GapPoint, gap_curve, identities_of
from reid_edge.tracking.mot_folder import BoxesOfFrames, Integers, MotSequence
from reid_edge.tracking.scores import TrackScorer, TrackScores, track_lines

# Cosine similarities that are tried as the appearance threshold.
THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
IOU_ALONE = "IoU alone"
RESULT_FILE = "tracking.json"


class ThresholdPoint(Result):
    """IDF1 with an appearance threshold."""

    threshold: float
    idf1: float


class ModelTracking(Result):
    """What tracks are made with a model.

    Attributes:
        model: path of its file, or "IoU alone".
        threshold: the appearance threshold with the highest IDF1 of those that were tried, a cosine
            similarity; None for overlap alone. It is chosen on the sequences it is measured on.
        scores: with this threshold, over all sequences.
        by_sequence: with this threshold, of each sequence by its name.
        thresholds: IDF1 with each threshold that was tried.
        gaps: how often a person is found again after a gap.
    """

    model: str
    threshold: float | None
    scores: TrackScores
    by_sequence: dict[str, TrackScores]
    thresholds: tuple[ThresholdPoint, ...] = ()
    gaps: tuple[GapPoint, ...]


class SequenceCounts(Result):
    """What is in a sequence."""

    name: str
    frames: int
    frame_rate: float
    detections: int


class MotEvaluation(Result):
    """What models do to tracking on some sequences, as it is in ``tracking.json``.

    Attributes:
        root: folder of the sequences.
        sequences: that were tracked.
        min_confidence: of the detections that were taken, or None for all.
        control: the same association by overlap alone.
        models: in the order in which they were given.
    """

    root: str
    sequences: tuple[SequenceCounts, ...]
    min_confidence: float | None
    control: ModelTracking
    models: tuple[ModelTracking, ...]

    def to_json(self) -> str:
        """Return it as indented JSON."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True)
class Tracked:
    """A result, and the tracks that it is about.

    Attributes:
        result: what was measured.
        tracks: by model as in the result: of each sequence's detections the number of the track.
        detections: of each sequence.
    """

    result: MotEvaluation
    tracks: dict[str, list[Integers]]
    detections: list[BoxesOfFrames]

    def write(self, folder: Path) -> None:
        """Write ``tracking.json``, and the tracks of each model in MOTChallenge's layout."""
        write_bytes(folder / RESULT_FILE, self.result.to_json().encode())
        for number, tracks in enumerate(self.tracks.values()):
            name = "iou" if number == 0 else f"model-{number}"
            for sequence, boxes, numbers in zip(
                self.result.sequences, self.detections, tracks, strict=True
            ):
                lines = track_lines(boxes, numbers)
                write_bytes(folder / "tracks" / name / f"{sequence.name}.txt", lines.encode())


def evaluate_mot(
    root: Path,
    sequences: Sequence[MotSequence],
    embedders: Sequence[Embedder],
    *,
    min_confidence: float | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    settings: AssociationSettings | None = None,
    start_progress: StartProgress | None = None,
) -> Tracked:
    """Track persons with each model, and by overlap alone, and measure the tracks.

    Args:
        root: folder of the sequences, for the result.
        sequences: what `reid_edge.tracking.mot_folder.read_mot_folder` returns.
        embedders: the models.
        min_confidence: of detections that are taken; None: all are.
        thresholds: cosine similarities that are tried as the appearance threshold.
        settings: of the association.
        start_progress: given the title of a piece of work, returns what to call as it advances.

    Raises:
        ReidError: TrackEval is not installed, an image cannot be read, a model fails, or a sequence
            has no detection of that confidence.
    """
    start = start_progress or no_progress
    sequences = _above(sequences, min_confidence)
    scorer = TrackScorer(sequences)
    detections = [sequence.detections for sequence in sequences]
    identities = [identities_of(each, each.detections) for each in sequences]

    by_overlap = [associate(boxes, settings=settings) for boxes in detections]
    scores, by_sequence = scorer.score(by_overlap)
    control = ModelTracking(
        model=IOU_ALONE,
        threshold=None,
        scores=scores,
        by_sequence=by_sequence,
        gaps=tuple(gap_curve(detections, identities, None)),
    )
    models, tracks = [], {IOU_ALONE: by_overlap}
    for embedder in embedders:
        name = str(embedder.model.path)
        embeddings = embed_detections(sequences, embedder, start(f"embedding {name}"))
        best = _best_tracks(
            scorer, detections, embeddings, thresholds, settings, start(f"tracking {name}")
        )
        tracks[name] = best.tracks
        scores, by_sequence = scorer.score(best.tracks)
        models.append(
            ModelTracking(
                model=name,
                threshold=best.threshold,
                scores=scores,
                by_sequence=by_sequence,
                thresholds=best.points,
                gaps=tuple(gap_curve(detections, identities, embeddings)),
            )
        )
    result = MotEvaluation(
        root=str(root),
        sequences=tuple(_counts(sequence) for sequence in sequences),
        min_confidence=min_confidence,
        control=control,
        models=tuple(models),
    )
    return Tracked(result, tracks, detections)


def _above(sequences: Sequence[MotSequence], confidence: float | None) -> Sequence[MotSequence]:
    """Return sequences with the detections of a confidence or above; None: with all.

    Raises:
        DataError: a sequence has none.
    """
    if confidence is None:
        return sequences
    found = [
        replace(sequence, detections=sequence.detections.above(confidence))
        for sequence in sequences
    ]
    for sequence in found:
        if not len(sequence.detections):
            raise DataError(
                f"{sequence.folder}: no detection of confidence {confidence:g} or above"
            )
    return found


@dataclass(frozen=True)
class _BestTracks:
    """The tracks with the highest IDF1, their threshold, and IDF1 with every threshold."""

    tracks: list[Integers]
    threshold: float
    points: tuple[ThresholdPoint, ...]


def _best_tracks(
    scorer: TrackScorer,
    detections: Sequence[BoxesOfFrames],
    embeddings: Sequence[Embeddings],
    thresholds: Sequence[float],
    settings: AssociationSettings | None,
    progress: Progress,
) -> _BestTracks:
    """Track with each threshold; of equal ones the highest is the best.

    That one gives a person to another's track least often.
    """
    points: list[ThresholdPoint] = []
    best: list[Integers] = []
    chosen = thresholds[0]
    for threshold in thresholds:
        found = [
            associate(boxes, features, threshold, settings)
            for boxes, features in zip(detections, embeddings, strict=True)
        ]
        idf1 = scorer.idf1(found)
        if idf1 >= max((point.idf1 for point in points), default=0):
            best, chosen = found, threshold
        points.append(ThresholdPoint(threshold=threshold, idf1=idf1))
        progress(len(points), len(thresholds))
    return _BestTracks(best, chosen, tuple(points))


def _counts(sequence: MotSequence) -> SequenceCounts:
    return SequenceCounts(
        name=sequence.name,
        frames=sequence.length,
        frame_rate=sequence.frame_rate,
        detections=len(sequence.detections),
    )


def embed_detections(
    sequences: Sequence[MotSequence], embedder: Embedder, progress: Progress
) -> list[Embeddings]:
    """Embed all detections; of a sequence (N, D), each of length 1.

    A detection with nothing of the frame in it gets a row of zeros, which is similar to nothing.
    """
    total = sum(len(np.unique(sequence.detections.frames)) for sequence in sequences)
    done, embedded = 0, []
    for sequence in sequences:
        boxes, parts = sequence.detections, []
        for frame in np.unique(boxes.frames).tolist():
            pixels = np.asarray(read_image(sequence.images[frame]))[..., ::-1]
            parts.append(embedder(pixels, boxes.boxes[boxes.places(frame)]))
            done += 1
            progress(done, total)
        embedded.append(np.concatenate(parts))
    return embedded
