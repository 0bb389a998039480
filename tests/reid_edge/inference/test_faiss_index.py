"""FAISS indexes find what a matrix product finds, and are checked when they are read."""

import faiss
import numpy as np
import pytest
import torch

from reid_edge.core.errors import DataError
from reid_edge.inference.embedder import unit_vectors
from reid_edge.inference.faiss_index import (
    IVF_MINIMUM_IMAGES,
    IndexKind,
    add_embeddings,
    index_from_bytes,
    index_to_bytes,
    make_index,
    search,
)


def embeddings(count: int, seed: int = 0, dimensions: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimensions), dtype=np.float32)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_finds_the_nearest(kind: IndexKind) -> None:
    first, more = embeddings(IVF_MINIMUM_IMAGES), 5 * embeddings(50, seed=1)
    index = make_index(kind, first)
    add_embeddings(index, more)
    index = index_from_bytes(index_to_bytes(index), kind, 8, len(first) + 50)
    every, queries = unit_vectors(np.concatenate((first, more))), embeddings(20, seed=2)
    similarities, places = torch.from_numpy(unit_vectors(queries) @ every.T).topk(5)
    found_similarities, found_places = search(index, queries, 5)
    right = sum(
        len(set(row.tolist()) & set(expected.tolist()))
        for row, expected in zip(found_places, places, strict=True)
    )
    assert right >= (100 if kind == "flat" else 90)
    assert found_similarities[0, 0] == pytest.approx(float(similarities[0, 0]), abs=1e-5)


def test_ties_keep_the_order_of_enrolment_and_nothing_is_made_up() -> None:
    index = make_index("flat", np.ones((3, 4), np.float32))
    assert search(index, np.ones((1, 4), np.float32), 10)[1].tolist() == [[0, 1, 2]]


def test_what_an_approximate_index_does_not_find_comes_last() -> None:
    index = make_index("ivf", embeddings(IVF_MINIMUM_IMAGES))
    index.nprobe = 1
    similarities, places = search(index, embeddings(3, seed=2), IVF_MINIMUM_IMAGES)
    assert places.shape == (3, IVF_MINIMUM_IMAGES)
    missing = places < 0
    assert missing.any(1).all()
    assert ((similarities == -np.inf) == missing).all()
    assert (missing == np.sort(missing, 1)).all()


def test_kinds_that_cannot_be_made() -> None:
    with pytest.raises(DataError, match="needs 312 or more, not 10; use flat"):
        make_index("ivf", embeddings(10))
    with pytest.raises(DataError, match="unknown index kind 'tree'; choose one of: flat, hnsw, iv"):
        make_index("tree", embeddings(10))  # type: ignore[arg-type]


def test_other_dimensions() -> None:
    with pytest.raises(DataError, match="embeddings have 4 dimensions, those of the index 8"):
        add_embeddings(make_index("flat", embeddings(3)), embeddings(3, dimensions=4))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_damage(kind: IndexKind) -> None:
    content = index_to_bytes(make_index(kind, embeddings(IVF_MINIMUM_IMAGES)))
    other: IndexKind = "hnsw" if kind == "flat" else "flat"
    count = IVF_MINIMUM_IMAGES
    for damaged, expected, words in (
        (content[:-10], (kind, 8, count), "the index is damaged"),
        (content[:20], (kind, 8, count), "the index is damaged"),
        (b"", (kind, 8, count), "the index is damaged"),
        (b"\0" * 100, (kind, 8, count), "the index is damaged"),
        (content, (other, 8, count), f"not the {other} index of {count} x 8 that"),
        (content, (kind, 16, count), f"not the {kind} index of {count} x 16 that"),
        (content, (kind, 8, 3), f"not the {kind} index of 3 x 8 that"),
    ):
        with pytest.raises(DataError, match=words):
            index_from_bytes(damaged, *expected)  # type: ignore[arg-type]


def test_a_size_beyond_the_file_is_refused_before_memory_is_taken() -> None:
    content = bytearray(index_to_bytes(make_index("flat", embeddings(3))))
    # The number of values of the only vector, behind a header of 37 bytes.
    content[37:45] = (2**40).to_bytes(8, "little")
    limit = faiss.get_deserialization_vector_byte_limit()
    with pytest.raises(DataError, match="the index is damaged"):
        index_from_bytes(bytes(content), "flat", 8, 3)
    assert faiss.get_deserialization_vector_byte_limit() == limit
