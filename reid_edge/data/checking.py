"""Checking a data set: what is in it, and what would go wrong with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.check_report import (
    DataReport,
    ImageSizes,
    SplitCounts,
    UnmatchedQuery,
    UnreadableImage,
)
from reid_edge.data.decoded_share import spacing
from reid_edge.data.decoding import check_image
from reid_edge.data.paths import path_order
from reid_edge.data.quick_look import quick_look
from reid_edge.data.schema import ReidData, count_persons
from reid_edge.data.thread_map import map_in_threads


@dataclass(frozen=True, slots=True)
class Looked:
    """What reading one image showed: size (width, height) and hash, or why it cannot be read."""

    path: Path
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    reason: str = ""


def check_data(
    data: ReidData, progress: Progress | None = None, *, decoded: int | None = None
) -> DataReport:
    """Read every image of a data set once and report what was found.

    Nothing that is wrong with the images or their labels raises; it is in the report.

    Args:
        data: the data set.
        progress: called with (images done, images).
        decoded: how many images to decode at most, evenly spaced; see
            :func:`reid_edge.data.decoded_share.spacing`. Of the others the beginning and the end
            have to be in order, or they are decoded too.
    """
    # An image may be in two splits, as in CUHK03's classic protocol.
    paths = sorted({image.path for image in data.images()}, key=path_order)
    apart = spacing(len(paths), decoded)
    looked = _look_at_all(paths, apart, progress)
    readable = [found.size for found in looked.values() if not found.reason]
    splits = (("train", data.train), ("query", data.query), ("gallery", data.gallery))
    trained = {image.person for image in data.train}
    asked = {image.person for image in data.query}
    distractors = [image for image in data.gallery if image.person not in asked] if asked else []
    different = set(data.images())
    pairs = {(image.person, image.camera) for image in different}
    on_camera = [
        Counter(camera for camera, _ in {(image.camera, image.person) for image in images})
        for _, images in splits
    ]
    # By content, the first training image that has it.
    learned: dict[bytes, Path] = {}
    for image in data.train:
        learned.setdefault(looked[image.path].digest, image.path)
    tested = sorted({image.path for image in (*data.query, *data.gallery)}, key=path_order)
    return DataReport(
        root=data.root,
        splits=tuple(
            SplitCounts(name, len(images), count_persons(images), len({i.camera for i in images}))
            for name, images in splits
        ),
        identities_by_camera={
            camera: (on_camera[0][camera], on_camera[1][camera], on_camera[2][camera])
            for camera in sorted({image.camera for image in different})
        },
        distractors=len(distractors),
        distractor_identities=count_persons(distractors),
        junk=data.junk,
        has_cameras=data.has_cameras,
        # No identity has two images on one camera, though some have several images.
        stand_in_cameras=data.has_cameras
        and len(different) > 1
        and len(pairs) == len(different) > count_persons(data.images()),
        unreadable=tuple(
            UnreadableImage(found.path, found.reason) for found in looked.values() if found.reason
        ),
        duplicates=tuple(
            (learned[digest], path)
            for path in tested
            if (digest := looked[path].digest) and digest in learned
        ),
        shared_identities=tuple(
            sorted(trained & {image.person for image in (*data.query, *data.gallery)})
        ),
        unmatched=_unmatched(data),
        sizes=ImageSizes.of(readable) if readable else None,
        notes=data.notes,
        apart=apart,
    )


def _look_at_all(
    paths: Sequence[Path], apart: int, progress: Progress | None
) -> dict[Path, Looked]:
    """Read every image once, by several threads, and decode every so many."""

    def look(number: int) -> Looked:
        path = paths[number]
        try:
            found = (quick_look(path) if number % apart else None) or check_image(path)
            return Looked(path, found.size, found.digest)
        except DataError as error:
            return Looked(path, reason=str(error).removeprefix(f"{path}: "))
        except OSError as error:
            return Looked(path, reason=" ".join(str(error).split()))

    looked = {}
    for done, found in enumerate(map_in_threads(look, range(len(paths))), start=1):
        looked[found.path] = found
        if progress is not None:
            progress(done, len(paths))
    return looked


def _unmatched(data: ReidData) -> tuple[UnmatchedQuery, ...]:
    """Return the queries whose person the gallery does not have on another camera."""
    cameras: dict[int, set[int]] = {}
    for image in data.gallery:
        cameras.setdefault(image.person, set()).add(image.camera)
    unmatched = []
    for query in data.query:
        seen = cameras.get(query.person, set())
        if not seen - {query.camera}:
            unmatched.append(UnmatchedQuery(query.path, query.person, query.camera, bool(seen)))
    return tuple(unmatched)
