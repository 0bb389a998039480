"""FAISS indexes of unit-length embeddings, compared by their inner product.

Johnson et al., "Billion-scale similarity search with GPUs", IEEE Transactions on Big Data 2019;
HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", TPAMI 2018.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import faiss
import numpy as np
import numpy.typing as npt

from reid_edge.core.errors import DataError
from reid_edge.core.model_file import Embeddings
from reid_edge.inference.embedder import unit_vectors

IndexKind = Literal["flat", "hnsw", "ivf"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

HNSW_NEIGHBOURS = 32
HNSW_SEARCH_DEPTH = 128
# FAISS warns below 39 vectors for each centroid that k-means finds.
IVF_IMAGES_PER_LIST = 39
IVF_MINIMUM_LISTS = 8
IVF_MINIMUM_IMAGES = IVF_IMAGES_PER_LIST * IVF_MINIMUM_LISTS
IVF_SEARCHED_SHARE = 4
# Among a million images the search of 64 of 2048 lists takes milliseconds; more lists take minutes
# of k-means and make it no faster.
IVF_MOST_LISTS = 2048
IVF_MOST_SEARCHED_LISTS = 64
IVF_TRAINING_IMAGES_PER_LIST = 64

_CLASSES: dict[IndexKind, type[faiss.Index]] = {
    "flat": faiss.IndexFlatIP,
    "hnsw": faiss.IndexHNSWFlat,
    "ivf": faiss.IndexIVFFlat,
}

FloatMatrix = npt.NDArray[np.float32]
IntegerMatrix = npt.NDArray[np.int64]


def make_index(kind: IndexKind, embeddings: Embeddings) -> faiss.Index:
    """Make an index of embeddings (N, D); "ivf" is trained on them.

    "flat" is exact. "hnsw" and "ivf" may miss a neighbour, and pay from some 100,000 images on.

    Raises:
        DataError: the kind is not known, or "ivf" has too few embeddings to be trained on.
    """
    check_kind(kind, len(embeddings))
    vectors = unit_vectors(embeddings)
    count, dimensions = vectors.shape
    index: faiss.Index
    if kind == "flat":
        index = faiss.IndexFlatIP(dimensions)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    else:
        lists = min(int(4 * count**0.5), count // IVF_IMAGES_PER_LIST, IVF_MOST_LISTS)
        cells = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(cells, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = IVF_TRAINING_IMAGES_PER_LIST
        index.train(vectors)
    index.add(vectors)
    return _tuned(index)


def check_kind(kind: str, count: int) -> None:
    """Check that an index of a kind can begin with a number of images.

    Raises:
        DataError: the kind is not known, or "ivf" has too few images to be trained on.
    """
    if kind not in INDEX_KINDS:
        raise DataError(f"unknown index kind {kind!r}; choose one of: {', '.join(INDEX_KINDS)}")
    if kind == "ivf" and count < IVF_MINIMUM_IMAGES:
        raise DataError(
            f"an ivf index is trained on its first images and needs {IVF_MINIMUM_IMAGES} or "
            f"more, not {count}; use flat, which is exact, and fast at this size"
        )


def add_embeddings(index: faiss.Index, embeddings: Embeddings) -> None:
    """Append embeddings (N, D) to an index, in order.

    Raises:
        DataError: they have another number of dimensions.
    """
    if embeddings.shape[1] != index.d:
        raise DataError(
            f"embeddings have {embeddings.shape[1]} dimensions, those of the index {index.d}"
        )
    index.add(unit_vectors(embeddings))


def search(
    index: faiss.Index, embeddings: Embeddings, count: int
) -> tuple[FloatMatrix, IntegerMatrix]:
    """Find the most similar entries for each of the embeddings (N, D).

    Returns:
        Cosine similarities, and places in the index, each of shape (N, the lesser of ``count`` and
        the index's entries): the most similar first, equally similar ones in the order they were
        added in. Where an approximate index found fewer, the rest has similarity minus infinity
        and place -1.
    """
    similarities, places = index.search(unit_vectors(embeddings), min(count, index.ntotal))
    similarities[places < 0] = -np.inf
    order = np.lexsort((places, -similarities))
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(places, order, 1)


def index_to_bytes(index: faiss.Index) -> memoryview:
    """Return an index in FAISS's own format."""
    content: npt.NDArray[np.uint8] = faiss.serialize_index(index)
    return content.data


def index_from_bytes(
    content: bytes | memoryview, kind: IndexKind, dimensions: int, count: int
) -> faiss.Index:
    """Read an index of FAISS's own format.

    FAISS trusts what it reads: check the hash of the file before.

    Args:
        content: of the file.
        kind: expected kind.
        dimensions: expected number of dimensions.
        count: expected number of vectors.

    Raises:
        DataError: it is another index, or damaged.
    """
    try:
        with _memory_limit(len(content)):
            index: faiss.Index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise DataError("the index is damaged") from error
    found = (type(index), index.d, index.ntotal, index.is_trained, index.metric_type)
    if found != (_CLASSES[kind], dimensions, count, True, faiss.METRIC_INNER_PRODUCT):
        raise DataError(f"not the {kind} index of {count} x {dimensions} that it should be")
    return _tuned(index)


@contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    """Let FAISS refuse vectors that claim to be larger than their file of ``size`` bytes."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # before FAISS 1.14
        yield
        return
    former = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(size)
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(former)


def _tuned(index: faiss.Index) -> faiss.Index:
    # FAISS's defaults, a depth of 16 and one list, miss too many neighbours for identification.
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = HNSW_SEARCH_DEPTH
    elif isinstance(index, faiss.IndexIVF):
        share = min(index.nlist // IVF_SEARCHED_SHARE, IVF_MOST_SEARCHED_LISTS)
        index.nprobe = max(IVF_MINIMUM_LISTS, share)
    return index
