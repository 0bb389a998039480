"""Crops of persons from a video and the boxes of a tracker: a set without identities."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.core.io import check_replaceable, hash_file, written_aside
from reid_edge.core.progress import Progress
from reid_edge.data.paths import check_regular, expand_home
from reid_edge.data.prepare.video_frames import frames_state, read_frames
from reid_edge.data.provenance import Provenance, Request, Source, read_provenance, write_provenance
from reid_edge.tracking.mot_folder import (
    COLUMNS,
    MOST_FRAMES,
    NO_CLASS,
    PEDESTRIAN,
    BoxesOfFrames,
    read_boxes,
)

DATA_SET = "video"
QUALITY = 95
# A box of which less is inside the frame is left out.
LEAST_WIDTH, LEAST_HEIGHT = 8, 16
# If more boxes have nothing of the frame, they are taken for those of another video.
MOST_OUTSIDE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CropCounts:
    """What was cut out of a video.

    Attributes:
        crops: number of images.
        tracks: number of tracks; 0 if the boxes have none.
        left_out: boxes that have less than 8 x 16 pixels of a frame.
        data_format: how a run and `reid-edge check` read the folder.
    """

    crops: int
    tracks: int
    left_out: int
    data_format: str


def prepare_crops(
    video: Path,
    boxes: Path,
    target: Path,
    *,
    camera: int = 1,
    every: int = 1,
    progress: Progress | None = None,
) -> CropCounts | None:
    """Cut boxes out of a video and write them with track, frame and camera in their names.

    ``c01_t0012/c01_t0012_f000345.jpg`` is of camera 1, track 12, frame 345; without tracks it is
    ``c01_f000345_00.jpg``. Boxes are cut off at the frame's border. Boxes that do not count in the
    ground truth of MOTChallenge, and those of other classes than pedestrians, are left out.

    Args:
        video: see `read_frames`.
        boxes: lines with ``frame,id,left,top,width,height,confidence``, as MOTChallenge has them;
            an id of -1 means none.
        target: a folder that does not exist yet or is empty.
        camera: number of the camera.
        every: take each track's first box and then every so many of its boxes; without tracks the
            boxes of every so many frames that have some.
        progress: called with (frames done, frames).

    Returns:
        What was written; None if the target was made by an equal call before.

    Raises:
        DataError: OpenCV is missing, a file cannot be read, boxes are not of this video, or the
            target holds something else.
    """
    video, boxes, target = (expand_home(path) for path in (video, boxes, target))
    if camera < 0 or every < 1:
        raise DataError("camera is 0 or more, every 1 or more")
    check_regular(boxes)
    try:
        boxes_hash = hash_file(boxes)
    except OSError as error:
        raise DataError(f"{boxes}: cannot be read ({error.strerror})") from error
    request = Request(
        DATA_SET,
        options={
            "boxes": str(boxes.resolve()),
            "boxes_sha256": boxes_hash,
            "camera": camera,
            "every": every,
        },
    )
    if target.exists():
        if not target.is_dir() or any(target.iterdir()):
            made = read_provenance(target) if target.is_dir() else Provenance()
            if made.request != request:
                raise DataError(
                    f"{target}: holds something else; remove it or give another folder with --to"
                )
            made.check_source(target, video, frames_state(video))
            logger.info("is prepared already: %s", target)
            return None
        check_replaceable(target)
    found = _thinned(_counted(boxes), every)
    frames = np.unique(found.frames).tolist()
    with written_aside(target) as draft:
        outside: list[str] = []
        left_out = 0
        for done, (number, image) in enumerate(read_frames(video, frames), start=1):
            place = found.places(number)
            for index, (box, track) in enumerate(
                zip(found.boxes[place], found.identities[place].tolist(), strict=True)
            ):
                left, top, right, bottom = np.clip(
                    np.rint(box), 0, [image.width, image.height] * 2
                ).astype(int)
                if right <= left or bottom <= top:
                    shown = ", ".join(f"{value:g}" for value in box)
                    outside.append(f"frame {number} of {image.width} x {image.height}, box {shown}")
                if right - left < LEAST_WIDTH or bottom - top < LEAST_HEIGHT:
                    left_out += 1
                    continue
                name = f"c{camera:02d}_f{number:06d}_{index:02d}.jpg"
                if track >= 0:
                    folder = f"c{camera:02d}_t{track:04d}"
                    (draft / folder).mkdir(exist_ok=True)
                    name = f"{folder}/{folder}_f{number:06d}.jpg"
                crop = image.crop((int(left), int(top), int(right), int(bottom)))
                crop.save(draft / name, quality=QUALITY)
            if progress is not None:
                progress(done, len(frames))
        if len(outside) > MOST_OUTSIDE * len(found):
            raise DataError(
                f"{boxes}: {len(outside)} of {len(found)} boxes are outside the frames, the first: "
                f"{outside[0]} (left, top, right, bottom); are they of another video, or of "
                "another size of it?"
            )
        if left_out == len(found):
            raise DataError(
                f"{boxes}: each of the {len(found)} boxes has less than {LEAST_WIDTH} x "
                f"{LEAST_HEIGHT} pixels of a frame; take a larger video"
            )
        source = replace(Source.of(video), frames=frames_state(video))
        write_provenance(draft, Provenance(request, source, names_source=True))
    tracks = len(np.unique(found.identities)) if (found.identities >= 0).all() else 0
    return CropCounts(
        len(found) - left_out, tracks, left_out, "tracklets" if tracks else "unlabelled"
    )


def _counted(path: Path) -> BoxesOfFrames:
    """Read the boxes of persons that count."""
    found = read_boxes(path, MOST_FRAMES, COLUMNS)
    counts = (found.scores != 0) & np.isin(found.classes, (PEDESTRIAN, NO_CLASS))
    if not counts.all():
        logger.info(
            "%s: %d of %d boxes do not count and are left out (confidence 0, or a class other than "
            "1)", path, int((~counts).sum()), len(found),
        )  # fmt: skip
    with_track = found.identities >= 0
    if (counts & with_track).any() and not with_track[counts].all():
        logger.warning(
            "%s: %d boxes without a track are left out, others have one",
            path, int((counts & ~with_track).sum()),
        )  # fmt: skip
        counts &= with_track
    if not counts.any():
        raise DataError(
            f"{path}: no box of a pedestrian that counts; expected {COLUMNS}, a confidence other "
            "than 0 and, if there is one, class 1"
        )
    kept = found.chosen(counts)
    if with_track[counts].all():
        pairs = np.stack([kept.frames, kept.identities], axis=1)
        unique, times = np.unique(pairs, axis=0, return_counts=True)
        if (times > 1).any():
            frame, track = unique[times > 1][0].tolist()
            raise DataError(f"{path}: track {track} has two boxes in frame {frame}")
    return kept


def _thinned(found: BoxesOfFrames, every: int) -> BoxesOfFrames:
    """Keep every so many boxes of a track, or frames."""
    if every == 1:
        return found
    if (found.identities < 0).any():
        return found.chosen(np.isin(found.frames, np.unique(found.frames)[::every]))
    kept = np.zeros(len(found), dtype=bool)
    for track in np.unique(found.identities):
        kept[np.flatnonzero(found.identities == track)[::every]] = True
    return found.chosen(kept)
