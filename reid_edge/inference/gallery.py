"""A gallery of enrolled images: a FAISS index, and who is where in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import faiss
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.inference.embedder import EmbeddingSpace
from reid_edge.inference.faiss_index import IndexKind, add_embeddings, make_index


@dataclass(frozen=True)
class Entry:
    """An enrolled image.

    Attributes:
        person: whose image it is.
        file: its path, relative to the folder it was enrolled from.
        content_hash: SHA-256 of the image file in hexadecimal.
    """

    person: str
    file: str
    content_hash: str


@dataclass(frozen=True)
class Gallery:
    """Enrolled images and their embeddings.

    Attributes:
        space: which model's embeddings they are.
        model_file: where that model was when the gallery was written, for convenience only.
        kind: of the index.
        entries: one for each embedding, in the index's order.
        index: None as long as there are no entries.
        generation: how often the gallery has been written.
    """

    space: EmbeddingSpace
    model_file: str
    kind: IndexKind
    entries: tuple[Entry, ...] = ()
    index: faiss.Index | None = None
    generation: int = 0


def append(gallery: Gallery, entries: Sequence[Entry], embeddings: Tensor) -> Gallery:
    """Give a gallery with more entries; the given one's index is changed and not to be used again.

    Args:
        gallery: to append to.
        entries: at least one.
        embeddings: one for each entry, shape (entries, D), of any length.

    Raises:
        DataError: the numbers differ, the embeddings have another number of dimensions, or an
            index that must be trained has too few to be trained on.
    """
    if len(entries) != len(embeddings):
        raise DataError(f"{len(entries)} entries, but {len(embeddings)} embeddings")
    index = gallery.index
    if index is None:
        index = make_index(gallery.kind, embeddings)
    else:
        add_embeddings(index, embeddings)
    return replace(gallery, entries=(*gallery.entries, *entries), index=index)
