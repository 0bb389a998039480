"""Verification of two images, and identification of images in a gallery."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_edge.core.errors import DataError
from reid_edge.core.model_file import Embeddings
from reid_edge.data.paths import expand_home, list_images
from reid_edge.inference.embedder import ImageEmbedder, embed_files, unit_vectors
from reid_edge.inference.faiss_index import search
from reid_edge.inference.gallery import Gallery

BLOCK_BYTES = 64 * 2**20
# A float32 similarity and an int64 place, found and sorted, and what they are sorted by.
_BYTES_PER_PAIR = 36


@dataclass(frozen=True)
class Verification:
    """The decision on two images.

    Attributes:
        similarity: cosine of the two embeddings, between -1 and 1.
        threshold: the lowest similarity that counts as the same person.
        same_person: whether the similarity reaches the threshold.
    """

    similarity: float
    threshold: float
    same_person: bool


def verify(embedder: ImageEmbedder, first: Path, second: Path, threshold: float) -> Verification:
    """Compare two image files.

    Args:
        embedder: the model.
        first: an image.
        second: another image.
        threshold: a cosine similarity.

    Raises:
        DataError: an image cannot be read.
        ModelError: the model fails.
    """
    one, other = unit_vectors(embed_files(embedder, [first, second])).astype(np.float64)
    similarity = float(np.float32((one * other).sum()))
    return Verification(similarity, threshold, similarity >= threshold)


@dataclass(frozen=True)
class Candidate:
    """An enrolled person that may be the one on the image.

    Attributes:
        person: the name.
        similarity: cosine, of the person's enrolled image that is most similar.
        file: that image, as it was enrolled.
    """

    person: str
    similarity: float
    file: str


@dataclass(frozen=True)
class Identification:
    """The decision on who is on an image.

    Attributes:
        person: the most similar person, or None if the similarity is below the threshold, or
            there is no threshold.
        candidates: persons, the most similar first, each once.
    """

    person: str | None
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as values that JSON has."""
        return asdict(self)


def identify(
    gallery: Gallery, embeddings: Embeddings, *, count: int, threshold: float | None
) -> list[Identification]:
    """Find who is on each image.

    A threshold for a false accept rate bounds it for one comparison. In a gallery of N persons a
    stranger is compared N times, and accepted as one of them up to N times as often.

    Args:
        gallery: with at least one entry.
        embeddings: of the images, shape (N, D).
        count: number of persons to return for each image.
        threshold: the lowest cosine similarity that identifies a person; None returns the
            candidates alone.

    Raises:
        DataError: ``count`` is below 1, or the embeddings have another number of dimensions.
    """
    check_count(count)
    index, entries = gallery.index, gallery.entries
    if index is None or embeddings.shape[1] != index.d:
        raise DataError("the embeddings do not belong to this gallery")
    persons, enrolled = gallery.person_numbers
    # There are not more persons; asking for more would search all images.
    count = min(count, enrolled)
    found: list[tuple[Candidate, ...]] = [()] * len(embeddings)
    # Search more and more images until there are enough persons, or no more images.
    # The first one is for twice as many images as the persons before the last one have on average.
    wanting = list(range(len(embeddings)))
    depth = max(count, (count - 1) * len(entries) // enrolled // 2)
    while wanting:
        depth = min(4 * depth, len(entries))
        rows = max(1, BLOCK_BYTES // (_BYTES_PER_PAIR * depth))
        still_wanting = []
        for start in range(0, len(wanting), rows):
            block = wanting[start : start + rows]
            similarities, places = search(index, embeddings[block], depth)
            for row, query in enumerate(block):
                best, enough = _best_by_person(persons, similarities[row], places[row], count)
                found[query] = tuple(
                    Candidate(entries[place].person, similarity, entries[place].file)
                    for place, similarity in best
                )
                if not enough and depth < len(entries):
                    still_wanting.append(query)
        wanting = still_wanting
    return [
        Identification(
            candidates[0].person
            if threshold is not None and candidates and candidates[0].similarity >= threshold
            else None,
            candidates,
        )
        for candidates in found
    ]


def check_count(count: int) -> None:
    """Raise DataError if fewer than one person is asked for."""
    if count < 1:
        raise DataError(f"the top {count} are asked for; expected 1 or more")


def query_images(query: Path) -> list[Path]:
    """Return an image itself, or a folder's images by name.

    Raises:
        DataError: there is neither.
    """
    query = expand_home(query)
    if query.is_file():
        return [query]
    if not query.is_dir():
        raise DataError(f"{query}: no such image or folder")
    images = list_images(query)
    if not images:
        raise DataError(f"{query}: no images in it; folders in it are not looked into")
    return images


def _best_by_person(
    persons: npt.NDArray[np.int64],
    similarities: npt.NDArray[np.float32],
    places: npt.NDArray[np.int64],
    count: int,
) -> tuple[list[tuple[int, float]], bool]:
    """Return (place, similarity) of the best image of each person, and whether these are final.

    Args:
        persons: the number of each entry's person.
        similarities: of a query with entries, descending.
        places: of these entries, -1 after the last one.
        count: number of persons to return.
    """
    present = int((places >= 0).sum())
    _, first = np.unique(persons[places[:present]], return_index=True)
    first = np.sort(first)[:count]
    # An image that was enrolled earlier may be as similar as the last one found, and not be found.
    enough = len(first) == count and similarities[first[-1]] > similarities[-1]
    best = zip(places[first].tolist(), similarities[first].tolist(), strict=True)
    return list(best), bool(enough)
