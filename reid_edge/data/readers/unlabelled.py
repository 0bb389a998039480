"""Images without identities: crops of any origin, and crops whose tracks are known."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.paths import (
    IMAGE_SUFFIXES,
    OTHER_IMAGE_SUFFIXES,
    existing_folder,
    images_within,
)
from reid_edge.data.reader import Reader
from reid_edge.data.readers.identity_folders import CAMERA
from reid_edge.data.schema import ReidData, Sample

# Not within a word, as cameras are written: "c01_t0012_f000345.jpg", "track 7/frame-12.png".
TRACK = re.compile(r"(?<![a-z0-9])(?:t|track(?:let)?[ _-]?)(\d+)(?![a-z0-9])", re.IGNORECASE)
FRAME = re.compile(r"(?<![a-z0-9])(?:f|frame[ _-]?)(\d+)(?![a-z0-9])", re.IGNORECASE)
# Person, camera and track of MARS, "0001C1T0002F003.jpg"; its frames count within a track.
MARS = re.compile(r"(\d{4}C\dT\d+)F\d+")
# What `reid-edge prepare --video` writes.
PREPARED = re.compile(r"c\d+_t\d+_f\d+")
# Cameras and frames are kept as 64-bit integers.
LARGEST = 2**63 - 1


def read_unlabelled(root: Path) -> ReidData:
    """Read the images of a folder at any depth; nothing says who is in them.

    Args:
        root: a folder. Cameras and frames are taken from the names if every image has one, see
            `read_tracklets`.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    root = existing_folder(root)
    images, not_read = _images(root)
    cameras, frames, notes = _cameras_and_frames(root, images)
    return ReidData(
        root,
        tuple(Sample(path, 0, cameras.get(path, 0), frames.get(path)) for path in images),
        (),
        (),
        has_cameras=bool(cameras),
        notes=(*notes, *not_read),
        labels="none",
    )


def read_tracklets(root: Path) -> ReidData:
    """Read images of tracks: each shows one person on one camera; two tracks may show the same.

    A track is a folder, at any depth; or the images of a folder with the same track in their names,
    as ``t`` or ``track`` and a number (``c01_t0012_f000345.jpg``), or as MARS has it
    (``0001C1T0002F003.jpg``). A camera is ``c``, ``cam`` or ``camera`` and a number, in the name of
    the image or of a folder around it, a frame ``f`` or ``frame`` and a number. Cameras and frames
    count if every image has one. Tracks of one camera that have images of one frame are of
    different people. So frames do not count where they seem to begin anew with every track; and
    the frames of different recordings, which are folders around tracks, get different numbers.
    Zeros in front of the number of a track do not count.

    Args:
        root: a folder with the images.

    Raises:
        DataError: there is no such folder, no image in it, nothing that says which track an image
            is of, or no track of two images. Or a number in a name is too large.
    """
    root = existing_folder(root)
    images, not_read = _images(root)
    named = _tracks_by_name(images)
    by_name = bool(named)
    if not by_name and any(path.parent == root for path in images):
        bare = next(path for path in images if path.parent == root)
        raise DataError(
            f"{bare}: neither in the folder of a track nor with a track such as 't12' in its name; "
            "images without tracks are data.format=unlabelled"
        )
    keys = named or {path: (path.parent, "") for path in images}
    tracks = {key: number for number, key in enumerate(sorted(set(keys.values())))}
    if len(tracks) == len(images):
        raise DataError(
            f"{root}: each of the {len(images)} tracks has one image, which says nothing of who is "
            "the same; take images of every track at several times, or data.format=unlabelled"
        )
    cameras, named_frames, notes = _cameras_and_frames(root, images)
    recordings = {
        path: path.parent if by_name and not TRACK.search(path.parent.name) else path.parent.parent
        for path in images
    }
    frames = _on_one_clock(named_frames, recordings)
    of_track: dict[int, list[int]] = {}
    for path, frame in frames.items():
        of_track.setdefault(tracks[keys[path]], []).append(frame)
    starts = Counter(min(found) for found in of_track.values())
    most = max(starts.values(), default=0)
    sure = all(PREPARED.fullmatch(path.stem) for path in images)
    if not sure and most > 0.9 * len(of_track):
        frames = {}
        note = "frames seem to count within a track and are not used"
        notes = (*notes, f"{most} of {len(tracks)} tracks begin at one frame, so {note}")
    samples = [
        Sample(path, tracks[keys[path]], cameras.get(path, 0), frames.get(path)) for path in images
    ]
    crossed = Counter(track for track, _ in {(one.person, one.camera) for one in samples})
    over_cameras = next((track for track, count in crossed.items() if count > 1), None)
    if over_cameras is not None:
        first = next(one.path for one in samples if one.person == over_cameras)
        raise DataError(
            f"{first}: its track has images of {crossed[over_cameras]} cameras, but a track is of "
            "one camera; images of known persons are data.format=folders"
        )
    return ReidData(
        root,
        tuple(samples),
        (),
        (),
        has_cameras=bool(cameras),
        notes=(*notes, *not_read),
        labels="tracks",
    )


def _images(root: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the images of a folder, and a note of those of kinds that are not read, if any."""
    found = images_within(root, (*IMAGE_SUFFIXES, *OTHER_IMAGE_SUFFIXES))
    kinds = Counter(path.suffix.lower() for path in found)
    others = sorted(kinds.keys() - set(IMAGE_SUFFIXES))
    images = [path for path in found if path.suffix.lower() not in others] if others else found
    if not images:
        raise DataError(f"{root}: no images in it (looked for {', '.join(IMAGE_SUFFIXES)})")
    if not others:
        return images, ()
    count = len(found) - len(images)
    return images, (
        f"{count} images are not read, because they are {', '.join(others)}; convert them to .jpg",
    )


def _tracks_by_name(images: list[Path]) -> dict[Path, tuple[Path, str]]:
    """Return the track of each image, its folder with what its name says; none if names do not."""
    named = {
        path: (path.parent, match[1])
        for path in images
        if (match := MARS.fullmatch(path.stem) or TRACK.search(path.stem))
    }
    # "t2" and "t002" of one folder are one track.
    spelled: dict[tuple[Path, str], tuple[Path, str]] = {}
    for folder, text in sorted(set(named.values())):
        spelled.setdefault((folder, text.lstrip("0")), (folder, text))
    named = {path: spelled[folder, text.lstrip("0")] for path, (folder, text) in named.items()}
    tracks = set(named.values())
    # Names such as "t000123.jpg" may count time in a folder that is a track.
    if len(tracks) == len(named):
        return {}
    if len(named) == len(images):
        return named
    if max(Counter(folder for folder, _ in tracks).values()) > 1:
        bare = next(path for path in images if path not in named)
        raise DataError(
            f"{bare}: has no track such as 't12' in its name, and {len(named)} of {len(images)} "
            "images have one; give it one, or take it out of the folder"
        )
    return {}


def _on_one_clock(frames: Mapping[Path, int], recordings: Mapping[Path, Path]) -> dict[Path, int]:
    """Return frames whose numbers rise from one recording to the next.

    Raises:
        DataError: the recordings are too long for a 64-bit integer.
    """
    of_recording: dict[Path, list[int]] = {}
    for path, frame in frames.items():
        of_recording.setdefault(recordings[path], []).append(frame)
    last = {recording: max(found) for recording, found in of_recording.items()}
    first = dict.fromkeys(last, 0)
    # Times of the day or of the calendar are long numbers; they count from the first one then.
    if sum(last.values()) + len(last) > LARGEST:
        first = {recording: min(found) for recording, found in of_recording.items()}
    begin: dict[Path, int] = {}
    start = 0
    for recording in sorted(last):
        begin[recording] = start - first[recording]
        start += last[recording] + 1 - first[recording]
    if start > LARGEST:
        raise DataError(
            f"{next(iter(frames))}: the frames in the names are too far apart, {start} in all; "
            "take them out of the names of some images, then they are not used"
        )
    return {path: begin[recordings[path]] + frame for path, frame in frames.items()}


def _cameras_and_frames(
    root: Path, images: list[Path]
) -> tuple[Mapping[Path, int], Mapping[Path, int], tuple[str, ...]]:
    """Return cameras and frames by image, each empty unless all images have one, and notes."""
    cameras: dict[Path, int] = {}
    frames: dict[Path, int] = {}
    for path in images:
        parts = (path.stem, *reversed(path.relative_to(root).parts[:-1]))
        camera = next((match for part in parts if (match := CAMERA.search(part))), None)
        if camera is not None:
            cameras[path] = int(camera[1] or camera[2])
        frame = FRAME.search(path.stem)
        if frame is not None:
            frames[path] = int(frame[1])
    notes = []
    for kind, found in (("camera", cameras), ("frame", frames)):
        if found and len(found) < len(images):
            notes.append(
                f"{len(found)} of {len(images)} images have a {kind} in their names, so it is not "
                "used; give all or none"
            )
            found.clear()
    for path, number in cameras.items():
        if number > LARGEST:
            raise DataError(f"{path}: camera {number}; expected a number up to {LARGEST}")
    return cameras, frames, tuple(notes)


UNLABELLED = Reader(
    name="unlabelled",
    layout="images in a folder at any depth, without identities; cameras such as `c2` and frames "
    "such as `f12` in the names, or none",
    read=read_unlabelled,
    # What `reid-edge prepare --video` writes of boxes without tracks.
    marks=("c[0-9]*_f[0-9]*_[0-9]*.jpg",),
    labels="none",
)
TRACKLETS = Reader(
    name="tracklets",
    layout="a folder per track, or names with a track such as `c01_t0012_f000345.jpg`, without "
    "identities",
    read=read_tracklets,
    # What it writes of boxes with tracks.
    marks=("c[0-9]*_t[0-9]*/c[0-9]*_t[0-9]*_f[0-9]*.jpg",),
    labels="tracks",
)
