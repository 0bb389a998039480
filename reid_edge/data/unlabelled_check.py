"""Checking a set without identities: what is of no use in it, and what is there many times."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Group, RenderableType
from rich.text import Text

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.check_report import ImageSizes, UnreadableImage, listing
from reid_edge.data.decoding import read_image
from reid_edge.data.held_out import FEWEST_IMAGES
from reid_edge.data.schema import ReidData
from reid_edge.data.thread_map import map_in_threads

# Pixels; in a smaller crop clothes are hardly more than a colour.
SMALL_WIDTH, SMALL_HEIGHT = 24, 48
# Variance of the Laplacian of a grey image of 64 x 128 pixels. The least of 600 images of CUHK03 is
# 425; blurred by a 40th of their width they have 19 to 71, by a 20th at most 7.
BLURRED = 50.0
# Bits of the difference hash, 256 of them, that differ at most of images that are nearly equal. Of
# 600 images of CUHK03, none differs from another one by less than 74; JPEG at quality 70 changes at
# most 15, together with a pixel cut off at each side 23 in the median.
HASH_SIDE = 16
NEAR = 32
CHUNK = 1024  # images that are compared at once


@dataclass(frozen=True)
class UnlabelledReport:
    """What checking a set without identities has found.

    Attributes:
        root: its folder.
        images: number of images.
        cameras: images by camera; empty if the names have none.
        tracks: number of tracks; 0 if there are none.
        single: tracks of one image.
        unreadable: images that cannot be decoded.
        small: images of less than 24 x 48 pixels.
        blurred: other images in which nothing is sharp.
        repeated: images that are nearly the same as another one.
        different: number of images with those that are nearly the same counted once.
        examples: pairs that are nearly the same.
        sizes: of the images that can be read; none if there are none.
        notes: what may be a mistake in the names.
    """

    root: Path
    images: int
    cameras: dict[int, int]
    tracks: int
    single: int
    unreadable: tuple[UnreadableImage, ...]
    small: tuple[Path, ...]
    blurred: tuple[Path, ...]
    repeated: int
    different: int
    examples: tuple[tuple[Path, Path], ...]
    sizes: ImageSizes | None
    notes: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return what makes a run fail, one sentence each."""
        found = []
        if self.unreadable:
            found.append(f"{len(self.unreadable)} images cannot be read")
        if self.different < FEWEST_IMAGES:
            found.append(
                f"{self.different} different images, of {self.images}; a run needs "
                f"{FEWEST_IMAGES} or more"
            )
        return found

    def __rich__(self) -> RenderableType:
        """Show the report as lines."""
        lines = [f"{self.root}: {self.images:,} images without identities"]
        if self.tracks:
            lines.append(f"tracks: {self.tracks:,}, {self.single:,} of them of one image")
        if self.cameras:
            counted = ", ".join(f"{camera}: {count:,}" for camera, count in self.cameras.items())
            lines.append(f"images by camera: {counted}")
        else:
            lines.append("cameras: none in the names")
        if self.sizes is not None:
            named = (self.sizes.smallest, self.sizes.median, self.sizes.largest)
            sizes = ", ".join(f"{width} x {height}" for width, height in named)
            lines.append(
                f"sizes, smallest, median, largest: {sizes} ({self.sizes.different} sizes)"
            )
        lines.append(
            f"nearly the same as another image: {self.repeated:,}; different: {self.different:,}"
        )
        parts: list[RenderableType] = [Text(line) for line in (*lines, *self.notes)]
        parts += listing("nearly the same, such as", (f"{one} and {two}" for one, two in
                         self.examples))  # fmt: skip
        parts += listing(
            f"smaller than {SMALL_WIDTH} x {SMALL_HEIGHT} pixels ({len(self.small):,})",
            map(str, self.small),
        )
        parts += listing(f"blurred ({len(self.blurred):,})", map(str, self.blurred))
        parts += listing("cannot be read", (f"{u.path}: {u.reason}" for u in self.unreadable), None)
        parts += [Text(f"problem: {sentence}", style="bold red") for sentence in self.problems()]
        if not self.problems():
            parts.append(Text("no problems found", style="green"))
        return Group(*parts)


@dataclass(frozen=True)
class _Looked:
    """What reading one image showed."""

    path: Path
    size: tuple[int, int] = (0, 0)
    sharpness: float = 0.0
    bits: NDArray[np.uint8] | None = None
    reason: str = ""


def check_unlabelled(data: ReidData, progress: Progress | None = None) -> UnlabelledReport:
    """Read every image of a set without identities once and report what was found.

    Nothing that is wrong with the images raises; it is in the report.

    Args:
        data: the set.
        progress: called with (images done, images).
    """
    images = data.images()
    looked = []
    paths = [image.path for image in images]
    for done, one in enumerate(map_in_threads(_look, paths), start=1):
        looked.append(one)
        if progress is not None:
            progress(done, len(images))
    whole = [one for one in looked if one.bits is not None]
    small = {one.path for one in whole if one.size[0] < SMALL_WIDTH or one.size[1] < SMALL_HEIGHT}
    nearest = nearest_copies([one.bits for one in whole if one.bits is not None])
    copies = [(place, other) for place, other in enumerate(nearest) if other >= 0]
    track_sizes = Counter(image.person for image in images) if data.labels == "tracks" else {}
    cameras = Counter(image.camera for image in images) if data.has_cameras else {}
    return UnlabelledReport(
        root=data.root,
        images=len(images),
        cameras=dict(sorted(cameras.items())),
        tracks=len(track_sizes),
        single=sum(count == 1 for count in track_sizes.values()),
        unreadable=tuple(UnreadableImage(one.path, one.reason) for one in looked if one.reason),
        small=tuple(sorted(small)),
        blurred=tuple(
            one.path for one in whole if one.sharpness < BLURRED and one.path not in small
        ),
        repeated=len(copies),
        different=count_different([one.bits for one in whole if one.bits is not None]),
        examples=tuple(
            (whole[place].path, whole[other].path) for place, other in copies if place < other
        ),
        sizes=ImageSizes.of([one.size for one in whole]) if whole else None,
        notes=data.notes,
    )


def nearest_copies(hashes: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Return for each image the place of one that is nearly the same, or -1.

    Args:
        hashes: what `difference_hash` gives, each of 32 bytes.
    """
    import faiss

    if len(hashes) < 2:
        return [-1] * len(hashes)
    table = np.stack(hashes)
    index = faiss.IndexBinaryFlat(8 * table.shape[1])
    index.add(table)
    distances, places = index.search(table, 2)
    # An image's own place is one of the two, unless two others have the same hash.
    own = places[:, 0] == np.arange(len(table))
    other, distance = (np.where(own, found[:, 1], found[:, 0]) for found in (places, distances))
    return [int(place) for place in np.where(distance <= NEAR, other, -1)]


def count_different(hashes: Sequence[NDArray[np.uint8]]) -> int:
    """Return how many images there are when each that is nearly the same as a former one is left.

    Frames of a track are each near the one before; they count anew once they are far from the
    first of them.

    Args:
        hashes: what `difference_hash` gives, each of 32 bytes.
    """
    import faiss

    if not hashes:
        return 0
    table = np.stack(hashes)
    kept = faiss.IndexBinaryFlat(8 * table.shape[1])
    for start in range(0, len(table), CHUNK):
        new = table[start : start + CHUNK]
        if kept.ntotal:
            new = new[kept.search(new, 1)[0][:, 0] > NEAR]
        while len(new):
            kept.add(new[:1])
            new = new[np.unpackbits(new ^ new[0], axis=1).sum(1) > NEAR]
    return int(kept.ntotal)


def difference_hash(image: Image.Image) -> NDArray[np.uint8]:
    """Return the difference hash of an image, 256 bits as 32 bytes.

    A bit says whether a pixel of the grey image of 17 x 16 pixels is darker than its right
    neighbour (Krawetz, "Kind of Like That", 2013).
    """
    grey = np.asarray(image.convert("L").resize((HASH_SIDE + 1, HASH_SIDE)), dtype=np.int16)
    return np.packbits(grey[:, :-1] < grey[:, 1:])


def sharpness(image: Image.Image) -> float:
    """Return the variance of the Laplacian of the grey image at 64 x 128 pixels.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    grey = np.asarray(image.convert("L").resize((64, 128)), dtype=np.float64)
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())


def _look(path: Path) -> _Looked:
    try:
        image = read_image(path)
    except DataError as error:
        return _Looked(path, reason=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return _Looked(path, reason=" ".join(str(error).split()))
    return _Looked(path, image.size, sharpness(image), difference_hash(image))
