"""The frames of a video or of a folder of images, by number."""

import hashlib
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.core.packages import import_package
from reid_edge.data.decoding import read_image
from reid_edge.data.paths import check_regular, list_images


def read_frames(video: Path, wanted: Collection[int]) -> Iterator[tuple[int, Image.Image]]:
    """Yield frames with their numbers, which count from 1, in order.

    Args:
        video: a file that OpenCV decodes; or a folder of images whose names are numbers, such as
            ``img1/000001.jpg`` in the MOTChallenge layout.
        wanted: numbers of the frames; others are left out.

    Yields:
        Number and RGB image.

    Raises:
        DataError: OpenCV is missing, the video cannot be decoded, or it has not all wanted frames.
    """
    if not video.exists():
        raise DataError(f"{video}: no such video or folder of frames")
    missing = set(wanted)
    for number, frame in _images(video) if video.is_dir() else _decoded(video, missing):
        if number in missing:
            missing.remove(number)
            yield number, read_image(frame) if isinstance(frame, Path) else frame
        if not missing:
            return
    raise DataError(
        f"{video}: has no frame {min(missing)}, but there are boxes of it"
        + (f" and of {len(missing) - 1} more that are not there" if len(missing) > 1 else "")
        + "; frames count from 1: are the boxes those of this video?"
    )


def frames_state(video: Path) -> str | None:
    """Return a SHA-256 of the names, sizes and times of change of the frames in a folder.

    Returns:
        None where the video is a file, or nothing is there any more.

    Raises:
        DataError: a frame cannot be read, or there is none.
    """
    if not video.is_dir():
        return None
    states = []
    for number, path in _images(video):
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        states.append((number, path.suffix, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(states).encode()).hexdigest()


def _images(folder: Path) -> Iterator[tuple[int, Path]]:
    numbered = [path for path in list_images(folder) if path.stem.isdecimal()]
    if not numbered:
        raise DataError(
            f"{folder}: no frames in it; expected images whose names are numbers, such as "
            "000001.jpg"
        )
    frames = sorted((int(path.stem), path) for path in numbered)
    for (number, first), (next_number, second) in pairwise(frames):
        if number == next_number:
            raise DataError(f"{second}: is frame {number}, as {first.name} is; keep one of them")
    yield from frames


def _decoded(video: Path, wanted: Collection[int]) -> Iterator[tuple[int, Image.Image]]:
    check_regular(video)
    cv2 = import_package("cv2", extra="video", needed_by=video, error=DataError)
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise DataError(
                f"{video}: OpenCV cannot decode it as a video; give a video, or a folder of frames"
            )
        number = 0
        while capture.grab():
            number += 1
            # To decode a frame is faster than to copy it out.
            if number in wanted:
                whole, frame = capture.retrieve()
                if whole:
                    yield number, Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        capture.release()
