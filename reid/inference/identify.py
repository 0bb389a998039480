"""Identification: who of the enrolled persons is on a picture, if any."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
from torch import Tensor

from reid.data.paths import list_pictures
from reid.errors import DataError
from reid.inference.faiss_index import search
from reid.inference.gallery import Entry, Gallery


@dataclass(frozen=True)
class Candidate:
    """An enrolled person that may be the one on the picture.

    Attributes:
        person: the name.
        similarity: cosine, of the person's enrolled picture that is most similar.
        file: that picture, as it was enrolled.
    """

    person: str
    similarity: float
    file: str


@dataclass(frozen=True)
class Identification:
    """Who is on a picture.

    Attributes:
        person: the most similar person, or None if the similarity is below the threshold.
        candidates: persons, the most similar first, each once.
    """

    person: str | None
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, object]:
        """Give it as values that JSON has."""
        return asdict(self)


def identify(
    gallery: Gallery, embeddings: Tensor, *, count: int, threshold: float
) -> list[Identification]:
    """Find who is on each picture.

    A threshold for a false accept rate bounds it for one comparison; against a gallery of N
    persons a stranger is compared N times, and taken for one of them up to N times as often.

    Args:
        gallery: with at least one entry.
        embeddings: of the pictures, shape (N, D).
        count: how many persons to give for each.
        threshold: the least cosine similarity at which somebody counts as recognised.

    Raises:
        DataError: ``count`` is below 1, or the embeddings have another number of dimensions.
    """
    if count < 1:
        raise DataError(f"the top {count} are asked for; expected 1 or more")
    index = gallery.index
    if index is None or embeddings.shape[1] != index.d:
        raise DataError("the embeddings do not belong to this gallery")
    found = _candidates(gallery.entries, index, embeddings, count)
    return [_decide(candidates, threshold) for candidates in found]


def query_pictures(query: Path) -> list[Path]:
    """Give a picture itself, or a folder's pictures by name.

    Raises:
        DataError: there is neither.
    """
    query = query.expanduser()
    if query.is_file():
        return [query]
    if not query.is_dir():
        raise DataError(f"{query}: no such picture or folder")
    pictures = list_pictures(query)
    if not pictures:
        raise DataError(f"{query}: no pictures in it; folders in it are not looked into")
    return pictures


def _decide(candidates: tuple[Candidate, ...], threshold: float) -> Identification:
    recognised = bool(candidates) and candidates[0].similarity >= threshold
    return Identification(candidates[0].person if recognised else None, candidates)


def _candidates(
    entries: Sequence[Entry], index: faiss.Index, embeddings: Tensor, count: int
) -> list[tuple[Candidate, ...]]:
    """Look at more and more pictures until there are enough persons, or no more pictures."""
    found: list[tuple[Candidate, ...]] = [()] * len(embeddings)
    wanting, depth = list(range(len(embeddings))), count
    while wanting:
        depth = min(4 * depth, len(entries))
        rows = search(index, embeddings[wanting], depth)
        for query, row in zip(wanting, rows, strict=True):
            found[query] = _by_person(entries, row)[:count]
        wanting = [q for q in wanting if len(found[q]) < count] if depth < len(entries) else []
    return found


def _by_person(entries: Sequence[Entry], row: Sequence[tuple[int, float]]) -> tuple[Candidate, ...]:
    best: dict[str, Candidate] = {}
    for place, similarity in row:
        entry = entries[place]
        best.setdefault(entry.person, Candidate(entry.person, similarity, entry.file))
    return tuple(best.values())
