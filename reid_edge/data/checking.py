"""Looking a data set over: what is in it, and what would go wrong with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
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
from reid_edge.data.images import read_image
from reid_edge.data.paths import list_images
from reid_edge.data.readers.market1501 import JUNK, SPLITS
from reid_edge.data.schema import ReidData, Sample, count_persons


@dataclass(frozen=True)
class Looked:
    """What reading one image showed: size (width, height) and hash, or why it cannot be read."""

    path: Path
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    reason: str = ""


def check_data(data: ReidData, progress: Progress | None = None) -> DataReport:
    """Read every image of a data set once and report what was found.

    Nothing that is wrong with the images or their labels raises; it is in the report.

    Args:
        data: the data set.
        progress: called with (images done, images).
    """
    looked = {found.path: found for found in _look_at_all(data, progress)}
    readable = [found for found in looked.values() if not found.reason]
    asked = {image.person for image in data.query}
    distractors = [image for image in data.gallery if image.person not in asked]
    return DataReport(
        root=data.root,
        splits=tuple(_count(name, images) for name, images in _splits(data)),
        identities_by_camera=_identities_by_camera(data),
        distractors=len(distractors) if asked else 0,
        distractor_identities=count_persons(distractors) if asked else 0,
        junk=_count_junk(data.root),
        has_cameras=data.has_cameras,
        stand_in_cameras=data.has_cameras and _has_stand_in_cameras(data),
        unreadable=tuple(
            UnreadableImage(found.path, found.reason) for found in looked.values() if found.reason
        ),
        duplicates=_duplicates(data, looked),
        shared_identities=_shared_identities(data),
        unmatched=_unmatched(data),
        sizes=_sizes(readable),
    )


def _splits(data: ReidData) -> list[tuple[str, Sequence[Sample]]]:
    return [("train", data.train), ("query", data.query), ("gallery", data.gallery)]


def _look_at_all(data: ReidData, progress: Progress | None) -> Iterator[Looked]:
    # An image may be in two splits, as in CUHK03's classic protocol.
    paths = sorted({image.path for image in data.images()})
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(_look, paths), start=1):
            if progress is not None:
                progress(done, len(paths))
            yield found


def _look(path: Path) -> Looked:
    try:
        size = read_image(path).size
        return Looked(path, size, sha256(path.read_bytes()).hexdigest())
    except DataError as error:
        return Looked(path, reason=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return Looked(path, reason=" ".join(str(error).split()))


def _count(name: str, images: Sequence[Sample]) -> SplitCounts:
    cameras = {image.camera for image in images}
    return SplitCounts(name, len(images), count_persons(images), len(cameras))


def _identities_by_camera(data: ReidData) -> dict[int, tuple[int, int, int]]:
    train, query, gallery = (_persons_by_camera(images) for _, images in _splits(data))
    cameras = sorted({image.camera for image in data.images()})
    return {camera: (train[camera], query[camera], gallery[camera]) for camera in cameras}


def _persons_by_camera(images: Sequence[Sample]) -> Counter[int]:
    pairs = {(image.camera, image.person) for image in images}
    return Counter(camera for camera, _ in pairs)


def _count_junk(root: Path) -> int:
    """Count what the Market-1501 reader drops: images of person -1."""
    folders = [root / folder for folder in SPLITS.values() if (root / folder).is_dir()]
    return sum(
        path.name.startswith(f"{JUNK}_") for folder in folders for path in list_images(folder)
    )


def _has_stand_in_cameras(data: ReidData) -> bool:
    images = set(data.images())
    pairs = {(image.person, image.camera) for image in images}
    return len(images) > 1 and len(pairs) == len(images) > count_persons(data.images())


def _duplicates(data: ReidData, looked: dict[Path, Looked]) -> tuple[tuple[Path, Path], ...]:
    trained: dict[str, Path] = {}
    for image in data.train:
        trained.setdefault(looked[image.path].digest, image.path)
    tested = sorted({image.path for image in (*data.query, *data.gallery)})
    return tuple(
        (trained[digest], path)
        for path in tested
        if (digest := looked[path].digest) and digest in trained
    )


def _shared_identities(data: ReidData) -> tuple[int, ...]:
    tested = {image.person for image in (*data.query, *data.gallery)}
    return tuple(sorted(tested & {image.person for image in data.train}))


def _unmatched(data: ReidData) -> tuple[UnmatchedQuery, ...]:
    cameras: dict[int, set[int]] = {}
    for image in data.gallery:
        cameras.setdefault(image.person, set()).add(image.camera)
    unmatched = []
    for query in data.query:
        seen = cameras.get(query.person, set())
        if not seen - {query.camera}:
            unmatched.append(UnmatchedQuery(query.path, query.person, query.camera, bool(seen)))
    return tuple(unmatched)


def _sizes(readable: Sequence[Looked]) -> ImageSizes | None:
    if not readable:
        return None
    sizes = sorted((found.size for found in readable), key=lambda size: (size[0] * size[1], size))
    return ImageSizes(sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1], len(set(sizes)))
