"""Re-ranking gives what the paper's authors' code gives, which is written out here."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics import reranking
from reid_edge.metrics.distances import cosine_distance, euclidean_distance
from reid_edge.metrics.ranking import evaluate_distances, evaluate_ranking
from reid_edge.metrics.reranking import rerank
from reid_edge.metrics.results import Distance

Matrix = npt.NDArray[np.float64]


def neighbours(rank: npt.NDArray[np.int64], i: int, k: int) -> npt.NDArray[np.int64]:
    forward = rank[i, : k + 1]
    backward = rank[forward, : k + 1]
    return forward[np.where(backward == i)[0]]


def naive(distances: Matrix, queries: int, k1: int, k2: int, weight: float) -> Matrix:
    """Dense, image by image, as published with the paper."""
    total = len(distances)
    original = np.power(distances, 2)
    original = (original / original.max(axis=0)).T
    rank = np.argsort(original, kind="stable")
    described = np.zeros((total, total))
    for i in range(total):
        mutual = neighbours(rank, i, k1)
        extended = mutual
        for candidate in mutual:
            of_candidate = neighbours(rank, candidate, round(k1 / 2))
            if len(np.intersect1d(of_candidate, mutual)) > 2 / 3 * len(of_candidate):
                extended = np.append(extended, of_candidate)
        extended = np.unique(extended)
        weights = np.exp(-original[i, extended])
        described[i, extended] = weights / weights.sum()
    if k2 != 1:
        described = np.stack([described[rank[i, :k2]].mean(axis=0) for i in range(total)])
    jaccard = np.zeros((queries, total))
    for i in range(queries):
        common = np.minimum(described[i], described).sum(axis=1)
        jaccard[i] = 1 - common / (2 - common)
    result: Matrix = (jaccard * (1 - weight) + original[:queries] * weight)[:, queries:]
    return result


def clustered(count: int, seed: int) -> Tensor:
    """Features around a few centres, as those of identities are."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, 16, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, 16, generator=generator)
    return centres[torch.arange(count) % 12] + 0.7 * noise


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 0.9)])
def test_as_the_authors_do(
    monkeypatch: pytest.MonkeyPatch, distance: Distance, k1: int, k2: int, weight: float
) -> None:
    monkeypatch.setattr(reranking, "_BLOCK_BYTES", 16 * 120 * 7)
    queries, gallery = clustered(30, 1), clustered(90, 2)
    every = torch.cat((queries, gallery))
    measure = cosine_distance if distance == "cosine" else euclidean_distance
    expected = naive(measure(every, every).double().numpy(), 30, k1, k2, weight)
    found = rerank(queries, gallery, distance=distance, k1=k1, k2=k2, weight=weight)
    assert found.shape == (30, 90)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_helps_where_identities_form_groups() -> None:
    queries, gallery = clustered(48, 1), clustered(240, 2)
    labels = (
        torch.arange(48) % 12,
        torch.zeros(48, dtype=torch.int64),
        torch.arange(240) % 12,
        torch.ones(240, dtype=torch.int64),
    )
    before = evaluate_ranking(queries, *labels[:2], gallery, *labels[2:])
    after = evaluate_distances(rerank(queries, gallery), *labels, distance="cosine")
    assert after.mean_average_precision > before.mean_average_precision


def test_fewer_images_than_neighbours_and_equal_ones() -> None:
    same = rerank(torch.ones(2, 4), torch.ones(3, 4))
    assert torch.allclose(same, torch.zeros(2, 3), atol=1e-6)
    assert torch.isfinite(rerank(torch.ones(30, 4), torch.ones(30, 4), k1=3)).all()


def test_progress() -> None:
    seen: list[tuple[int, int]] = []
    rerank(torch.rand(2, 4), torch.rand(3, 4), progress=lambda *each: seen.append(each))
    assert seen == [(5, 5)]


def test_refused() -> None:
    good = torch.rand(3, 4)
    with pytest.raises(DataError, match="unknown distance 'taxi'"):
        rerank(good, good, distance="taxi")  # type: ignore[arg-type]
    for options in ({"k1": 0}, {"k2": 0}, {"weight": 1.5}):
        with pytest.raises(DataError, match="k1 and k2 are 1 or more, the weight is between"):
            rerank(good, good, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"gallery features have shape \(0, 4\)"):
        rerank(good, good[:0])
    with pytest.raises(DataError, match="1 of 1 query features are not finite"):
        rerank(torch.full((1, 4), float("nan")), good)
    with pytest.raises(DataError, match="query features have 4 dimensions, gallery features"):
        rerank(good, good[:, :3])
