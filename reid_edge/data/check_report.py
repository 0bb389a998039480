"""What checking a data set has found, and how it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Group, RenderableType
from rich.text import Text

from reid_edge.core.tables import FittingTable
from reid_edge.data.schema import NO_CAMERAS

LISTED = 10
MOST_CAMERAS = 20


@dataclass(frozen=True)
class SplitCounts:
    """How many images, identities and cameras a split has."""

    name: str
    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be decoded, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class UnmatchedQuery:
    """A query that the evaluation leaves out, since nothing in the gallery can match it.

    Attributes:
        path: the image.
        person: its identity.
        camera: its camera.
        same_camera: whether the identity is in the gallery, but on this camera alone; the protocol
            drops such images. Otherwise it is not in the gallery at all.
    """

    path: Path
    person: int
    camera: int
    same_camera: bool

    def __str__(self) -> str:
        """Say why there is no match."""
        if self.same_camera:
            person = f"the gallery has person {self.person}"
            return f"{self.path}: {person} on the query's camera {self.camera} alone"
        return f"{self.path}: person {self.person} is not in the gallery"


@dataclass(frozen=True)
class ImageSizes:
    """Sizes (width, height) in order of area, and how many different ones there are."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    different: int

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]]) -> Self:
        """Sum up the sizes of at least one image."""
        ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        return cls(ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1], len(set(ordered)))


@dataclass(frozen=True)
class DataReport:
    """What checking a data set has found.

    Attributes:
        root: its folder.
        splits: counts of train, query and gallery.
        identities_by_camera: by camera, how many identities it has in train, query and gallery.
        distractors: gallery images of identities that no query asks for.
        distractor_identities: how many identities these are.
        junk: images of person -1, in MARS 00-1, which are not read.
        has_cameras: as that of :class:`reid_edge.data.schema.ReidData`.
        stand_in_cameras: there are cameras, but no identity has two images on one of them.
        unreadable: images that cannot be decoded.
        duplicates: (training image, test image) that are equal byte for byte.
        shared_identities: identities in both training and test set.
        unmatched: queries that the protocol leaves out.
        sizes: of the images that can be read; none if there are none.
        notes: what may be a mistake in how persons and cameras are written.
        apart: n, where every n-th image was decoded.
    """

    root: Path
    splits: tuple[SplitCounts, ...]
    identities_by_camera: dict[int, tuple[int, int, int]]
    distractors: int
    distractor_identities: int
    junk: int
    has_cameras: bool
    stand_in_cameras: bool
    unreadable: tuple[UnreadableImage, ...]
    duplicates: tuple[tuple[Path, Path], ...]
    shared_identities: tuple[int, ...]
    unmatched: tuple[UnmatchedQuery, ...]
    sizes: ImageSizes | None
    notes: tuple[str, ...] = ()
    apart: int = 1

    def problems(self) -> list[str]:
        """Return what makes training fail or its figures wrong, one sentence each."""
        queries = next((split.images for split in self.splits if split.name == "query"), 0)
        found = (
            (self.unreadable, f"{len(self.unreadable)} images cannot be read"),
            (self.duplicates, f"{len(self.duplicates)} test images are training images too"),
            (
                self.shared_identities,
                f"{len(self.shared_identities)} identities are in both training and test set",
            ),
            (
                queries and len(self.unmatched) == queries,
                f"none of the {queries} queries has a match on another camera",
            ),
        )
        return [sentence for is_so, sentence in found if is_so]

    def __rich__(self) -> RenderableType:
        """Show the report as tables and lists."""
        rows = [
            (split.name, f"{split.images:,}", f"{split.identities:,}", f"{split.cameras:,}")
            for split in self.splits
        ]
        headings = ("split", "images", "identities", "cameras")
        parts: list[RenderableType] = [FittingTable(str(self.root), headings, rows)]
        if len(self.identities_by_camera) > MOST_CAMERAS:
            parts.append(Text(f"{len(self.identities_by_camera):,} cameras, too many to list"))
        else:
            rows = [
                (str(camera), f"{train:,}", f"{query:,}", f"{gallery:,}")
                for camera, (train, query, gallery) in self.identities_by_camera.items()
            ]
            headings = ("camera", "train", "query", "gallery")
            parts.append(FittingTable("identities by camera", headings, rows, left=0))
        parts += [Text(line) for line in self._notes()]
        parts += listing("cannot be read", (f"{u.path}: {u.reason}" for u in self.unreadable), None)
        parts += listing(
            "test images that are training images too",
            (f"{test} is {train}" for train, test in self.duplicates),
        )
        parts += listing(
            "identities in both training and test set", map(str, self.shared_identities)
        )
        parts += listing("queries without a match, left out", map(str, self.unmatched))
        parts += [Text(f"problem: {sentence}", style="bold red") for sentence in self.problems()]
        if not self.problems():
            parts.append(Text("no problems found", style="green"))
        return Group(*parts)

    def _notes(self) -> list[str]:
        """Say what is worth knowing and no problem."""
        notes = list(self.notes)
        if self.apart > 1:
            notes.append(
                f"one of {self.apart} images was decoded; of the others, the whole file was "
                "hashed, and its beginning and end are in order (--decode all decodes every image)"
            )
        if self.sizes is not None:
            named = (self.sizes.smallest, self.sizes.median, self.sizes.largest)
            sizes = ", ".join(f"{width} x {height}" for width, height in named)
            notes.append(
                f"sizes, smallest, median, largest: {sizes} ({self.sizes.different} sizes)"
            )
        if self.distractors:
            notes.append(
                f"distractors in the gallery: {self.distractors:,} images "
                f"of {self.distractor_identities:,} identities"
            )
        if self.junk:
            notes.append(f"junk, not read: {self.junk:,} images of person -1")
        if not self.has_cameras:
            notes.append(NO_CAMERAS)
        if self.stand_in_cameras:
            notes.append("no identity has two images on one camera: these may be no real cameras")
        if not any(split.images for split in self.splits if split.name != "train"):
            notes.append("no query and no gallery: the set can be trained on, not evaluated")
        if not any(split.images for split in self.splits if split.name == "train"):
            notes.append("no training images: the set can be evaluated, not trained on")
        return notes


def listing(title: str, lines: Iterable[str], limit: int | None = LISTED) -> Sequence[Text]:
    """Show a title and the first lines below it, or nothing where there are none."""
    found = list(lines)
    if not found:
        return []
    shown = found[:limit]
    more = [f"  and {len(found) - len(shown):,} more"] if len(shown) < len(found) else []
    return [Text(line) for line in (f"{title}:", *(f"  {line}" for line in shown), *more)]
