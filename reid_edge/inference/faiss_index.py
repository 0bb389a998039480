"""FAISS indexes of unit-length embeddings, compared by their inner product.

Johnson et al., "Billion-scale similarity search with GPUs", IEEE Transactions on Big Data 2019;
HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", TPAMI 2018.
"""

import struct
from typing import Literal, get_args

import faiss
import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.distances import unit_length

IndexKind = Literal["flat", "hnsw", "ivf"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

HNSW_NEIGHBOURS = 32
HNSW_SEARCH_DEPTH = 128
# FAISS wants 39 vectors or more for each centroid that k-means finds.
IVF_IMAGES_PER_LIST = 39
IVF_MINIMUM_LISTS = 8
IVF_MINIMUM_IMAGES = IVF_IMAGES_PER_LIST * IVF_MINIMUM_LISTS
IVF_SEARCHED_SHARE = 4

_MAGIC: dict[IndexKind, bytes] = {"flat": b"IxFI", "hnsw": b"IHNf", "ivf": b"IwFl"}
# Kind, dimensions, vectors, two unused numbers, whether it is trained, metric.
_HEADER = struct.Struct("<4siqqq?i")

FloatMatrix = npt.NDArray[np.float32]
IntegerMatrix = npt.NDArray[np.int64]


def make_index(kind: IndexKind, embeddings: Tensor) -> faiss.Index:
    """Make an index of embeddings (N, D); "ivf" is trained on them.

    "flat" is exact. "hnsw" and "ivf" may miss a neighbour, and pay from some 100,000 images on.

    Raises:
        DataError: the kind is not known, or "ivf" has too few embeddings to be trained on.
    """
    check_kind(kind, len(embeddings))
    vectors = _vectors(embeddings)
    dimensions = vectors.shape[1]
    if kind == "flat":
        index: faiss.Index = faiss.IndexFlatIP(dimensions)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    else:
        index = _train_ivf(vectors)
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


def add_embeddings(index: faiss.Index, embeddings: Tensor) -> None:
    """Append embeddings (N, D) to an index, in order.

    Raises:
        DataError: they have another number of dimensions.
    """
    if embeddings.shape[1] != index.d:
        raise DataError(
            f"embeddings have {embeddings.shape[1]} dimensions, those of the index {index.d}"
        )
    index.add(_vectors(embeddings))


def search(index: faiss.Index, embeddings: Tensor, count: int) -> tuple[FloatMatrix, IntegerMatrix]:
    """Find the most similar entries for each of the embeddings (N, D).

    Returns:
        Cosine similarities, and places in the index, each of shape (N, the lesser of ``count`` and
        the index's entries): the most similar first, equally similar ones in the order they were
        added in. Where an approximate index found fewer, the rest has similarity minus infinity
        and place -1.
    """
    similarities, places = index.search(_vectors(embeddings), min(count, index.ntotal))
    similarities[places < 0] = -np.inf
    order = np.lexsort((places, -similarities))
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(places, order, 1)


def index_to_bytes(index: faiss.Index) -> bytes:
    """Give an index in FAISS's own format."""
    return faiss.serialize_index(index).tobytes()


def index_from_bytes(content: bytes, kind: IndexKind, dimensions: int, count: int) -> faiss.Index:
    """Read an index of FAISS's own format, after its header has been found to be what it must be.

    Args:
        content: of the file.
        kind: which kind it must be.
        dimensions: how many its vectors must have.
        count: how many vectors it must hold.

    Raises:
        DataError: it is another one, or damaged.
    """
    expected = (_MAGIC[kind], dimensions, count, True, faiss.METRIC_INNER_PRODUCT)
    if len(content) < _HEADER.size or _header(content) != expected:
        raise DataError(f"not the {kind} index of {count} x {dimensions} that it should be")
    if kind == "flat" and len(content) != _HEADER.size + 8 + 4 * dimensions * count:
        raise DataError("the index is cut short or has grown")
    try:
        index: faiss.Index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise DataError("the index is damaged") from error
    return _tuned(index)


def _header(content: bytes) -> tuple[bytes, int, int, bool, int]:
    magic, dimensions, count, _, _, trained, metric = _HEADER.unpack_from(content)
    return magic, dimensions, count, trained, metric


def _vectors(embeddings: Tensor) -> FloatMatrix:
    vectors: FloatMatrix = unit_length(embeddings.detach().cpu().float()).numpy()
    return np.ascontiguousarray(vectors)


def _train_ivf(vectors: FloatMatrix) -> faiss.Index:
    count, dimensions = vectors.shape
    lists = min(int(4 * count**0.5), count // IVF_IMAGES_PER_LIST)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.METRIC_INNER_PRODUCT
    )
    index.train(vectors)
    return index


def _tuned(index: faiss.Index) -> faiss.Index:
    # FAISS's defaults, a depth of 16 and one list, miss too many neighbours for identification.
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = HNSW_SEARCH_DEPTH
    elif isinstance(index, faiss.IndexIVF):
        index.nprobe = max(IVF_MINIMUM_LISTS, index.nlist // IVF_SEARCHED_SHARE)
    return index
