"""Which images there are, and what Market-1501 calls them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from reid_edge.data.synthetic.randomness import Stream
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings

TRAIN = "bounding_box_train"
QUERY = "query"
GALLERY = "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)

DISTRACTOR_ID = "0000"
JUNK_ID = "-1"


@dataclass(frozen=True)
class Entry:
    """One image to draw: where its randomness comes from, and its path within the data set."""

    stream: Stream
    identity: int
    camera: int
    image: int
    path: PurePosixPath


def entries(settings: SyntheticSettings) -> Iterator[Entry]:
    """List all images, in the order in which they are written."""
    # Identities of training and test alternate, as in the original, so that neither their names
    # nor their looks depend on how many of the others there are.
    for identity in range(settings.train_identities):
        yield from _identity(settings, Stream.TRAIN, identity, f"{2 * identity + 2:04d}")
    for identity in range(settings.test_identities):
        yield from _identity(settings, Stream.TEST, identity, f"{2 * identity + 1:04d}")
    yield from _strangers(settings, Stream.DISTRACTOR, settings.distractors, DISTRACTOR_ID)
    yield from _strangers(settings, Stream.JUNK, settings.junk, JUNK_ID)


def _identity(
    settings: SyntheticSettings, stream: Stream, identity: int, label: str
) -> Iterator[Entry]:
    for camera in range(settings.cameras):
        for image in range(settings.images_per_camera):
            name = _name(label, camera, 25 * image + 1)
            test = QUERY if image == 0 else GALLERY
            folder = PurePosixPath(TRAIN if stream is Stream.TRAIN else test)
            yield Entry(stream, identity, camera, image, folder / name)


def _strangers(
    settings: SyntheticSettings, stream: Stream, count: int, label: str
) -> Iterator[Entry]:
    for stranger in range(count):
        camera = stranger % settings.cameras
        name = _name(label, camera, stranger + 1)
        yield Entry(stream, stranger, camera, 0, PurePosixPath(GALLERY) / name)


def _name(label: str, camera: int, frame: int) -> str:
    return f"{label}_c{camera + 1}s1_{frame:06d}_01.jpg"
