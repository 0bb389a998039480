"""Identification: who of the enrolled persons is on an image, if any."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.data.paths import expand_home, list_images
from reid_edge.inference.faiss_index import search
from reid_edge.inference.gallery import Entry, Gallery

BLOCK_BYTES = 64 * 2**20
# A float32 similarity and an int64 place, found and sorted, and what they are sorted by.
_BYTES_PER_PAIR = 36

FloatArray = npt.NDArray[np.float32]
IntegerArray = npt.NDArray[np.int64]


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
    """Who is on an image.

    Attributes:
        person: the most similar person, or None if the similarity is below the threshold, or
            there is none.
        candidates: persons, the most similar first, each once.
    """

    person: str | None
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, object]:
        """Give it as values that JSON has."""
        return asdict(self)


def identify(
    gallery: Gallery, embeddings: Tensor, *, count: int, threshold: float | None
) -> list[Identification]:
    """Find who is on each image.

    A threshold for a false accept rate bounds it for one comparison; against a gallery of N
    persons a stranger is compared N times, and taken for one of them up to N times as often.

    Args:
        gallery: with at least one entry.
        embeddings: of the images, shape (N, D).
        count: how many persons to give for each.
        threshold: the least cosine similarity at which somebody counts as recognised; none: the
            candidates alone, nobody is recognised.

    Raises:
        DataError: ``count`` is below 1, or the embeddings have another number of dimensions.
    """
    check_count(count)
    index = gallery.index
    if index is None or embeddings.shape[1] != index.d:
        raise DataError("the embeddings do not belong to this gallery")
    found = _candidates(gallery.entries, index, embeddings, count)
    return [_decide(candidates, threshold) for candidates in found]


def check_count(count: int) -> None:
    """Check how many persons are asked for.

    Raises:
        DataError: fewer than 1.
    """
    if count < 1:
        raise DataError(f"the top {count} are asked for; expected 1 or more")


def query_images(query: Path) -> list[Path]:
    """Give an image itself, or a folder's images by name.

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


def _decide(candidates: tuple[Candidate, ...], threshold: float | None) -> Identification:
    if threshold is None or not candidates or candidates[0].similarity < threshold:
        return Identification(None, candidates)
    return Identification(candidates[0].person, candidates)


def _candidates(
    entries: Sequence[Entry], index: faiss.Index, embeddings: Tensor, count: int
) -> list[tuple[Candidate, ...]]:
    """Look at more and more images until there are enough persons, or no more images."""
    persons = _numbers([entry.person for entry in entries])
    # More than there are would be looked for among all images.
    count = min(count, int(persons.max()) + 1)
    found: list[tuple[Candidate, ...]] = [()] * len(embeddings)
    wanting, depth = list(range(len(embeddings))), count
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
    return found


def _numbers(names: Sequence[str]) -> IntegerArray:
    """Give each name a number from 0, equal names the same."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _best_by_person(
    persons: IntegerArray, similarities: FloatArray, places: IntegerArray, count: int
) -> tuple[list[tuple[int, float]], bool]:
    """Give (place, similarity) of the best image of each person, and whether these are final.

    Args:
        persons: the number of each entry's person.
        similarities: of a query with entries, descending.
        places: of these entries, -1 after the last one.
        count: how many persons to give.
    """
    present = int((places >= 0).sum())
    _, first = np.unique(persons[places[:present]], return_index=True)
    first = np.sort(first)[:count]
    # Of images as similar as the last one found, those enrolled earlier may not be among these.
    enough = len(first) == count and similarities[first[-1]] > similarities[-1]
    best = zip(places[first].tolist(), similarities[first].tolist(), strict=True)
    return list(best), bool(enough)
