"""Jaccard distances are those of SpCL's program, which is written out here."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reid_edge.core.errors import DataError
from reid_edge.metrics.jaccard import jaccard_graph


def reciprocal(rank: npt.NDArray[np.int64], i: int, k: int) -> npt.NDArray[np.int64]:
    forward = rank[i, : k + 1]
    return forward[(rank[forward, : k + 1] == i).any(1)]


def naive(features: Tensor, k1: int, k2: int) -> npt.NDArray[np.float64]:
    """Dense, image by image."""
    unit = F.normalize(features, dim=1).double().numpy()
    first = np.maximum(2 - 2 * unit @ unit.T, 0)
    rank, count = np.argsort(first, kind="stable"), len(first)
    described = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(rank, i, k1)
        expanded = own
        for candidate in own:
            other = reciprocal(rank, int(candidate), round(k1 / 2))
            if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                expanded = np.append(expanded, other)
        expanded = np.unique(expanded)
        weights = np.exp(-first[i, expanded])
        described[i, expanded] = weights / weights.sum()
    described = np.stack([described[rank[i, :k2]].mean(0) for i in range(count)])
    common = np.minimum(described[:, None], described[None]).sum(2)
    return 1 - common / (2 - common)


@pytest.mark.parametrize(("k1", "k2"), [(6, 3), (10, 1), (30, 6)])
def test_distances_are_those_of_the_naive_program(k1: int, k2: int) -> None:
    generator = torch.Generator().manual_seed(k1)
    centres = torch.randn(5, 8, generator=generator)
    features = centres[torch.arange(40) % 5] + 0.5 * torch.randn(40, 8, generator=generator)
    expected = naive(features, k1, k2)
    graph = jaccard_graph(features, largest=0.7, k1=k1, k2=k2)
    stored = np.ones((40, 40))
    entries = graph.tocoo()
    stored[entries.coords] = entries.data
    near = expected <= 0.69
    assert near.sum() > 40 + 20
    assert np.abs(stored - expected)[near].max() < 1e-5
    assert (stored[expected > 0.71] == 1).all()
    assert (stored == stored.T).all()


def test_equal_images_are_kept_at_distance_zero() -> None:
    features = torch.eye(6).repeat_interleave(2, dim=0)
    graph = jaccard_graph(features, largest=0.5, k1=1, k2=1)
    assert graph.nnz == 24
    assert graph.toarray().max() < 1e-6


@pytest.mark.parametrize("largest", [0.0, 1.0])
def test_a_largest_distance_out_of_range_is_refused(largest: float) -> None:
    with pytest.raises(DataError, match="the largest distance is between 0 and 1"):
        jaccard_graph(torch.eye(4), largest=largest)


def test_features_that_are_no_matrix_are_refused() -> None:
    with pytest.raises(DataError, match=r"features have shape \(4,\); expected a matrix"):
        jaccard_graph(torch.ones(4), largest=0.5)
