"""IDF1, HOTA and identity switches, computed by TrackEval.

TrackEval (https://github.com/JonathonLuiten/TrackEval) is MOTChallenge's own evaluation. It reads
the ground truth and what a tracker has found from text files, leaves out what does not count, and
computes HOTA (Luiten et al., IJCV 2021), IDF1 (Ristani et al., ECCVW 2016) and the CLEAR measures
(Bernardin and Stiefelhagen, 2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from reid_edge.core.errors import DataError, reason_of
from reid_edge.core.packages import import_package
from reid_edge.metrics.results import Result
from reid_edge.tracking.mot_folder import (
    NO_CLASS,
    TRUTH,
    BoxesOfFrames,
    Integers,
    MotSequence,
)

EXTRA = "tracking"
TRACKER = "tracker"
# No sequence has an empty name.
ALL = ""


class TrackScores(Result):
    """How good tracks are; every share is between 0 and 1.

    Attributes:
        idf1: IDF1, the share of boxes that have their identity's own track.
        hota: HOTA, the mean over 19 overlaps from 0.05 to 0.95.
        detection_accuracy: DetA, the part of HOTA that the detections alone decide.
        association_accuracy: AssA, the part of HOTA that their association decides.
        mota: MOTA; it may be below 0.
        identity_switches: how often an identity goes on with another track, IDSW.
        identities: in the ground truth.
        tracks: that were made.
    """

    idf1: float
    hota: float
    detection_accuracy: float
    association_accuracy: float
    mota: float
    identity_switches: int
    identities: int
    tracks: int


class TrackScorer:
    """Measures tracks of some sequences against their ground truth.

    Args:
        sequences: at least one, of different names.

    Raises:
        ReidError: TrackEval is not installed; the message says how to install it.
    """

    def __init__(self, sequences: Sequence[MotSequence]) -> None:
        self._datasets = import_package(
            "trackeval.datasets", extra=EXTRA, needed_by="--mot", error=DataError
        )
        self._metrics = import_package(
            "trackeval.metrics", extra=EXTRA, needed_by="--mot", error=DataError
        )
        self._sequences = sequences

    def idf1(self, tracks: Sequence[Integers]) -> float:
        """Return IDF1 alone, which takes a tenth of the time.

        Args:
            tracks: for each sequence the track of every detection, from 1.
        """
        return float(self._measure(tracks, ["Identity"])[ALL]["Identity"]["IDF1"])

    def score(self, tracks: Sequence[Integers]) -> tuple[TrackScores, dict[str, TrackScores]]:
        """Measure tracks.

        Args:
            tracks: for each sequence the track of every detection, from 1.

        Returns:
            The scores over all sequences together, and those of each sequence by its name.

        Raises:
            DataError: TrackEval cannot read the ground truth.
        """
        found = self._measure(tracks, ["HOTA", "CLEAR", "Identity", "Count"])
        scores = {
            name: TrackScores(
                idf1=float(part["Identity"]["IDF1"]),
                hota=float(np.mean(part["HOTA"]["HOTA"])),
                detection_accuracy=float(np.mean(part["HOTA"]["DetA"])),
                association_accuracy=float(np.mean(part["HOTA"]["AssA"])),
                mota=float(part["CLEAR"]["MOTA"]),
                identity_switches=int(part["CLEAR"]["IDSW"]),
                identities=int(part["Count"]["GT_IDs"]),
                tracks=int(part["Count"]["IDs"]),
            )
            for name, part in found.items()
        }
        return scores.pop(ALL), scores

    def _measure(
        self, tracks: Sequence[Integers], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Return what each measure gives, by its name, for each sequence and for all together."""
        quiet = {"PRINT_CONFIG": False}
        measures = {
            name: getattr(self._metrics, name)(*([quiet] if name in ("CLEAR", "Identity") else []))
            for name in names
        }
        found: dict[str, dict[str, Any]] = {}
        with TemporaryDirectory(prefix="reid-edge-") as folder:
            for sequence, numbers in zip(self._sequences, tracks, strict=True):
                with _told_as_own(sequence):
                    data = self._read(sequence, numbers, Path(folder))
                    found[sequence.name] = {
                        name: measure.eval_sequence(data) for name, measure in measures.items()
                    }
        together = {
            name: measure.combine_sequences({each: part[name] for each, part in found.items()})
            for name, measure in measures.items()
        }
        return {**found, ALL: together}

    def _read(self, sequence: MotSequence, numbers: Integers, folder: Path) -> Any:
        """Let TrackEval read the ground truth and the tracks of a sequence."""
        found = folder / TRACKER / "data" / f"{sequence.name}.txt"
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(track_lines(sequence.detections, numbers), encoding="utf-8")
        # MOT15 has no classes; MOT20 has one that the others have not.
        benchmark = "MOT20" if sequence.name.startswith("MOT20") else "MOT17"
        if (sequence.truth.classes == NO_CLASS).all():
            benchmark = "MOT15"
        dataset = self._datasets.MotChallenge2DBox(
            {
                # The folder's own name, since a part of the name is not the sequence's.
                "GT_FOLDER": str(sequence.folder.resolve().parent),
                "GT_LOC_FORMAT": "{gt_folder}/{seq}/" + TRUTH.as_posix(),
                "TRACKERS_FOLDER": str(folder),
                "TRACKERS_TO_EVAL": [TRACKER],
                "BENCHMARK": benchmark,
                "SEQ_INFO": {sequence.name: sequence.length},
                "SKIP_SPLIT_FOL": True,
                "PRINT_CONFIG": False,
            }
        )
        raw = dataset.get_raw_seq_data(TRACKER, sequence.name)
        return dataset.get_preprocessed_seq_data(raw, "pedestrian")


def track_lines(detections: BoxesOfFrames, numbers: Integers) -> str:
    """Return tracks as MOTChallenge has them: ``frame,id,left,top,width,height,conf,-1,-1,-1``."""
    corner = detections.boxes[:, :2] + 1
    sizes = detections.boxes[:, 2:] - detections.boxes[:, :2]
    lines = [
        f"{frame},{number},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{score:.4f},-1,-1,-1\n"
        for frame, number, (left, top), (width, height), score in zip(
            detections.frames.tolist(),
            numbers.tolist(),
            corner.tolist(),
            sizes.tolist(),
            detections.scores.tolist(),
            strict=True,
        )
    ]
    return "".join(lines)


@contextmanager
def _told_as_own(sequence: MotSequence) -> Iterator[None]:
    """Tell an error of TrackEval with the sequence's folder, as one line."""
    try:
        yield
    except (OSError, DataError):
        raise
    except Exception as error:
        raise DataError(f"{sequence.folder}: TrackEval: {reason_of(error)}") from error
