"""Sequences in the MOTChallenge layout (https://motchallenge.net/instructions/).

A sequence is a folder with ``seqinfo.ini``, ``det/det.txt``, ``gt/gt.txt`` and the frames in
``img1``. A line of both text files begins with ``frame,id,left,top,width,height,confidence``; one
of ``gt.txt`` goes on with ``class,visibility``. Frames, and pixels too, are counted from 1.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.errors import DataError
from reid_edge.data.paths import expand_home

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INFO = "seqinfo.ini"
DETECTIONS, TRUTH = Path("det") / "det.txt", Path("gt") / "gt.txt"
# What a line begins with.
COLUMNS = "frame,id,left,top,width,height,confidence"
TRUTH_COLUMNS = f"{COLUMNS},class"
PEDESTRIAN, NO_CLASS = 1, -1
# TrackEval makes tables of all frames and all numbers up to the highest identity.
MOST_FRAMES, MOST_IDENTITIES, LARGEST_FRAME = 1_000_000, 1_000_000, 100_000


@dataclass(frozen=True)
class BoxesOfFrames:
    """Boxes of a sequence, in the order of their frames.

    Attributes:
        frames: number of the frame of each box, from 1, shape (N,).
        boxes: left, top, right, bottom in pixels from 0, shape (N, 4).
        scores: of a detection its confidence; in the ground truth 0 where the box does not count.
        identities: of each box; -1 for detections.
        classes: MOTChallenge's number of the class, 1 for a pedestrian; -1 where there is none.
    """

    frames: Integers
    boxes: Floats
    scores: Floats
    identities: Integers
    classes: Integers

    def __len__(self) -> int:
        return len(self.frames)

    def places(self, frame: int) -> slice:
        """Return where the boxes of a frame are."""
        first, last = np.searchsorted(self.frames, (frame, frame + 1))
        return slice(int(first), int(last))

    def above(self, least_score: float) -> BoxesOfFrames:
        """Return the boxes with this score or a higher one."""
        return self.chosen(self.scores >= least_score)

    def chosen(self, kept: NDArray[np.bool_]) -> BoxesOfFrames:
        """Return the boxes for which ``kept`` (N,) is true."""
        return BoxesOfFrames(
            self.frames[kept],
            self.boxes[kept],
            self.scores[kept],
            self.identities[kept],
            self.classes[kept],
        )


@dataclass(frozen=True)
class MotSequence:
    """A sequence with given detections and the ground truth.

    Attributes:
        name: of the folder, which is what MOTChallenge calls it.
        folder: where it is.
        length: number of frames.
        frame_rate: frames a second.
        images: of the frames, by number from 1; every frame with a detection has one.
        detections: what a detector gave.
        truth: the ground truth; boxes of other classes than pedestrians are in it.
    """

    name: str
    folder: Path
    length: int
    frame_rate: float
    images: dict[int, Path]
    detections: BoxesOfFrames
    truth: BoxesOfFrames


def read_mot_folder(folder: Path) -> list[MotSequence]:
    """Read a sequence, or all sequences in a folder, in the order of their names.

    Raises:
        DataError: there is none, or one is not whole; the message names the file.
    """
    folder = expand_home(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if (folder / INFO).is_file():
        return [read_sequence(folder)]
    found = sorted(path.parent for path in folder.glob(f"*/{INFO}"))
    if not found:
        raise DataError(
            f"{folder}: no sequence in the MOTChallenge layout; expected {INFO}, or folders with it"
        )
    return [read_sequence(sequence) for sequence in found]


def read_sequence(folder: Path) -> MotSequence:
    """Read one sequence.

    Raises:
        DataError: a file is missing or not in the layout, or no box counts.
    """
    info = _read_info(folder / INFO)
    detections = read_boxes(folder / DETECTIONS, info.length, COLUMNS)
    truth = read_boxes(folder / TRUTH, info.length, TRUTH_COLUMNS)
    if (truth.identities < 0).any():
        raise DataError(f"{folder / TRUTH}: a box has no identity; expected 0 or higher")
    pairs = np.stack([truth.frames, truth.identities])
    if len(np.unique(pairs, axis=1).T) < len(truth):
        raise DataError(f"{folder / TRUTH}: an identity has two boxes in one frame")
    images = {}
    try:
        for path in sorted((folder / info.images).iterdir()):
            if path.suffix == info.suffix and path.stem.isdecimal():
                images[int(path.stem)] = path
    except OSError as error:
        raise DataError(f"{folder / info.images}: cannot be read ({error.strerror})") from error
    for frame in np.unique(detections.frames).tolist():
        if frame not in images:
            raise DataError(
                f"{folder / info.images}: no image of frame {frame}; expected "
                f"{frame:06d}{info.suffix}"
            )
    return MotSequence(
        folder.resolve().name, folder, info.length, info.frame_rate, images, detections, truth
    )


@dataclass(frozen=True)
class _Info:
    length: int
    frame_rate: float
    images: str
    suffix: str


def _read_info(path: Path) -> _Info:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        info = _Info(
            int(section["seqLength"]),
            float(section.get("frameRate", "30")),
            section.get("imDir", "img1"),
            section.get("imExt", ".jpg"),
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except KeyError as error:
        raise DataError(f"{path}: has no {error.args[0]}") from error
    except (configparser.Error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not as MOTChallenge writes it ({reason})") from error
    if not 1 <= info.length <= MOST_FRAMES or not 0 < info.frame_rate < 1e6:
        raise DataError(f"{path}: {info.length} frames at {info.frame_rate:g} a second")
    # A name with folders in it could lead out of the sequence.
    if not re.fullmatch(r"[\w-]+", info.images) or not re.fullmatch(r"\.\w+", info.suffix):
        raise DataError(f"{path}: imDir {info.images!r} and imExt {info.suffix!r}: not as expected")
    return info


def read_boxes(path: Path, length: int, columns: str) -> BoxesOfFrames:
    """Read a text file with a box on each line, and sort the boxes by frame.

    Args:
        path: of the file.
        length: highest number of a frame.
        columns: what every line begins with.

    Raises:
        DataError: it cannot be read, a line is no box, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not a text file") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = [float(text) for text in line.rstrip(", \t").split(",")]
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not numbers with commas") from error
        if len(row) <= columns.count(",") or not np.isfinite(row).all():
            raise DataError(f"{path}: line {number}: expected {columns}")
        frame, width, height = row[0], row[4], row[5]
        if not 1 <= frame <= length or frame != int(frame):
            raise DataError(f"{path}: line {number}: frame {frame:g} of {length}")
        if width <= 0 or height <= 0 or max(np.abs(row[2:6])) > LARGEST_FRAME:
            raise DataError(
                f"{path}: line {number}: a box of {width:g} x {height:g} pixels at "
                f"{row[2]:g}, {row[3]:g}"
            )
        identity = row[1]
        if identity != int(identity) or not -1 <= identity <= MOST_IDENTITIES:
            raise DataError(f"{path}: line {number}: identity {identity:g}; expected up to 1000000")
        rows.append([*row[:7], np.clip(row[7], -1, 99) if len(row) > 7 else NO_CLASS])
    if not rows:
        raise DataError(f"{path}: has no boxes")
    table = np.array(rows)
    table = table[np.argsort(table[:, 0], kind="stable")]
    corner = table[:, 2:4] - 1
    return BoxesOfFrames(
        frames=table[:, 0].astype(np.int64),
        boxes=np.concatenate([corner, corner + table[:, 4:6]], axis=1),
        scores=table[:, 6],
        identities=table[:, 1].astype(np.int64),
        classes=table[:, 7].astype(np.int64),
    )
