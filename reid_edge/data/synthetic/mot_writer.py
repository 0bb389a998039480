"""Writes sequences of walking pedestrians in the MOTChallenge layout."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.progress import Progress
from reid_edge.data.synthetic.manifest import MANIFEST, holds
from reid_edge.data.synthetic.mot_settings import MotSettings
from reid_edge.data.synthetic.randomness import Stream, generator
from reid_edge.data.synthetic.street import Seen, make_street

# Raise this with every change that changes a frame, a box or the manifest.
FORMAT = 1
# The detector: nobody below the first visibility is found, above the second nearly everybody.
HIDDEN, PLAIN = 0.25, 0.6
MOST_FOUND = 0.985
# Standard deviation of a box's corners, in heights of the box; false detections in a frame.
JITTER, FALSE_DETECTIONS = 0.012, 0.04

logger = logging.getLogger(__name__)


def write_synthetic_mot(
    folder: Path, settings: MotSettings, progress: Progress | None = None
) -> None:
    """Write a sequence for each camera, with detections and ground truth, in MOTChallenge's layout.

    Persons cross, hide each other, go behind walls, turn round, stand, go out of sight and come
    back. The ground truth has a box for everybody who is at least in part inside the frame, also
    while they are hidden; who comes back keeps the number. The detections are those of a detector
    that finds nobody who is mostly hidden, and is a little off. The same settings give the same
    bytes, wherever the same versions of NumPy and Pillow draw them.

    Args:
        folder: where to; it does not exist yet, or is empty, or was written by this function.
        settings: what to draw.
        progress: called after each frame with how many are done and how many there are.

    Raises:
        DataError: the folder holds something else, was written with other settings, or cannot be
            written.
    """
    folder = folder.resolve()
    wanted = describe_mot(settings)
    if holds(folder, wanted):
        logger.info("synthetic sequences are there already: %s", folder)
        return
    try:
        with written_aside(folder) as draft:
            for number in range(settings.cameras):
                done = number * settings.frames
                _write_sequence(draft / sequence_name(number), settings, number, progress, done)
            text = json.dumps(wanted, indent=2) + "\n"
            (draft / MANIFEST).write_text(text, encoding="utf-8")
    except DataError:
        # Another process may have been faster; its frames are as good as ours.
        if not holds(folder, wanted):
            raise
    logger.info("wrote synthetic sequences: %s", folder)


def describe_mot(settings: MotSettings) -> dict[str, Any]:
    """Return the manifest of the sequences: format, settings, frames in each folder."""
    frames = {
        f"{sequence_name(number)}/img1": settings.frames for number in range(settings.cameras)
    }
    return {"format": f"mot-{FORMAT}", "settings": asdict(settings), "images": frames}


def sequence_name(camera: int) -> str:
    """Return the name of a camera's sequence, counted from 0."""
    return f"SYN-{camera + 1:02d}"


def _write_sequence(
    folder: Path, settings: MotSettings, number: int, progress: Progress | None, done: int
) -> None:
    for name in ("img1", "det", "gt"):
        (folder / name).mkdir(parents=True)
    street = make_street(settings, number)
    detections, truth = [], []
    for frame in range(settings.frames):
        image, seen = street.draw(frame)
        path = folder / "img1" / f"{frame + 1:06d}.jpg"
        image.save(path, quality=street.camera.quality)
        truth += [
            _line(frame, one.number + 1, one.box, f"1,1,{one.visibility:.5f}") for one in seen
        ]
        detections += _detect(settings, number, frame, seen)
        if progress is not None:
            progress(done + frame + 1, settings.cameras * settings.frames)
    (folder / "gt" / "gt.txt").write_text("".join(truth), encoding="utf-8")
    (folder / "det" / "det.txt").write_text("".join(detections), encoding="utf-8")
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={settings.frame_rate}\n"
        f"seqLength={settings.frames}\nimWidth={settings.width}\nimHeight={settings.height}\n"
        "imExt=.jpg\n",
        encoding="utf-8",
    )


def _detect(settings: MotSettings, number: int, frame: int, seen: list[Seen]) -> list[str]:
    """Return the lines of what a detector finds in a frame."""
    rng = generator(settings.seed, Stream.DETECTOR, camera=number, image=frame)
    size = np.array([settings.width, settings.height] * 2)
    lines = []
    for one in seen:
        # Everything is drawn, found or not, so that a person changes nothing for the next one.
        chance, shift, luck = rng.random(), rng.normal(0, JITTER, 4), rng.normal(0, 0.04)
        share = float(np.clip((one.visibility - HIDDEN) / (PLAIN - HIDDEN), 0, 1))
        box = np.array(one.box)
        box = np.clip(box + shift * (box[3] - box[1]), 0, size)
        if chance < MOST_FOUND * share and (box[2:] - box[:2] >= 4).all():
            confidence = float(np.clip(0.45 + 0.5 * share + luck, 0.3, 0.99))
            lines.append(_line(frame, -1, tuple(box), f"{confidence:.4f},-1,-1,-1"))
    if rng.random() < FALSE_DETECTIONS:
        tall = rng.uniform(0.3, 0.5) * settings.height
        left = rng.uniform(0, settings.width - 0.4 * tall)
        top = rng.uniform(0.2, 0.45) * settings.height
        confidence = rng.uniform(0.3, 0.5)
        box = np.clip([left, top, left + 0.4 * tall, top + tall], 0, size)
        lines.append(_line(frame, -1, tuple(box), f"{confidence:.4f},-1,-1,-1"))
    return lines


def _line(frame: int, identity: int, box: tuple[float, ...], rest: str) -> str:
    """Return a line of MOTChallenge, which counts frames and pixels from 1."""
    left, top, right, bottom = box
    return (
        f"{frame + 1},{identity},{left + 1:.2f},{top + 1:.2f},{right - left:.2f},"
        f"{bottom - top:.2f},{rest}\n"
    )
