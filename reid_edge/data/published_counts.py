"""What the published data sets hold, to tell a whole copy from one that is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from reid_edge.data.schema import ReidData, Sample, count_persons


@dataclass(frozen=True)
class Counts:
    """How many images and identities a data set has.

    Attributes:
        train: images to train on.
        train_identities: their identities.
        query: queries.
        query_identities: their identities.
        gallery: images of the gallery, without junk.
    """

    train: int
    train_identities: int
    query: int = 0
    query_identities: int = 0
    gallery: int = 0

    def __str__(self) -> str:
        text = f"{self.train:,} training images of {self.train_identities:,} identities"
        if not (self.query or self.gallery):
            return text
        return (
            f"{text}, {self.query:,} queries of {self.query_identities:,}, "
            f"{self.gallery:,} gallery images"
        )


# From the papers, the sets' own pages and torchreid's documentation.
PUBLISHED: dict[str, tuple[Counts, ...]] = {
    "market1501": (Counts(12936, 751, 3368, 750, 15913),),
    "dukemtmc-reid": (Counts(16522, 702, 2228, 702, 17661),),
    "cuhk03-detected": (Counts(7365, 767, 1400, 700, 5332),),
    "cuhk03-labelled": (Counts(7368, 767, 1400, 700, 5328),),
    # Without and with the images of list_val.txt; versions 1 and 2 have the same.
    "msmt17": (
        Counts(30248, 1041, 11659, 3060, 82161), Counts(32621, 1041, 11659, 3060, 82161),
    ),
    # The list of the paper, and InsightFace's, which is cleaned and aligned.
    "casia-webface": (Counts(494414, 10575), Counts(490623, 10572)),
}  # fmt: skip


def count(data: ReidData) -> Counts:
    """Count a data set."""
    return Counts(*_count(data.train), *_count(data.query), gallery=len(data.gallery))


def _count(images: Sequence[Sample]) -> tuple[int, int]:
    return len(images), count_persons(images)


def differing_counts(name: str, found: Counts) -> str | None:
    """Say how a data set differs from what was published, or return none where it does not.

    Args:
        name: of the data set; of one that is not in ``PUBLISHED`` nothing is expected.
        found: in what was read.
    """
    published = PUBLISHED.get(name, ())
    if not published or found in published:
        return None
    return f"{name} has {' or '.join(map(str, published))}; found {found}"
