import numpy as np
import pytest
import torch

from reid_edge.metrics.ranks import (
    GalleryIndex,
    Pairs,
    ranks_by_counting,
    ranks_row_by_row,
)


def stable_ranks(distances, pairs):
    ranks = np.empty(distances.shape, dtype=np.int64)
    order = np.argsort(distances, axis=1, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1, distances.shape[1] + 1)[None], axis=1)
    return ranks[pairs.rows, pairs.columns]


def random_distances(seed, gallery, levels, share=0.4):
    """Distances with junk, and some finite entries to rank; few levels make many ties."""
    generator = np.random.default_rng(seed)
    distances = generator.integers(-levels, levels, (9, gallery)).astype(np.float32) / 8
    distances[generator.random(distances.shape) < 0.1] = np.inf
    distances[distances == 0] *= generator.choice([-1.0, 1.0], np.sum(distances == 0))
    wanted = np.isfinite(distances) & (generator.random(distances.shape) < share)
    wanted[generator.integers(9)] = False
    return distances, Pairs(*np.nonzero(wanted))


@pytest.mark.parametrize("levels", [1, 4, 100, 10**6])
@pytest.mark.parametrize(
    ("gallery", "share"),
    # On a CPU the few images of a row in a long gallery are counted, and the rest are sorted.
    [(1, 0.4), (2, 0.4), (17, 0.4), (300, 0.4), (4000, 0.002), (4000, 0.005)],
)
def test_all_ways_equal_a_stable_argsort(levels, gallery, share):
    distances, pairs = random_distances(levels + gallery, gallery, levels, share)
    expected = stable_ranks(distances, pairs)
    np.testing.assert_array_equal(ranks_row_by_row(distances, pairs), expected)
    if len(pairs):
        for working_bytes in (1, 5000, 2**20):
            counted = ranks_by_counting(torch.from_numpy(distances), pairs, working_bytes)
            np.testing.assert_array_equal(counted, expected)


def test_the_distances_are_left_as_they_were():
    distances, pairs = random_distances(0, 50, 5)
    before = distances.copy()
    ranks_row_by_row(distances, pairs)
    ranks_by_counting(torch.from_numpy(distances), pairs, 1000)
    np.testing.assert_array_equal(distances, before)


def test_matches_and_junk():
    index = GalleryIndex.build(np.array([5, 3, 5, 5, 9]), np.array([0, 0, 1, 0, 0]))
    matches, junk = index.matches_and_junk(np.array([5, 4, 3]), np.array([0, 0, 1]))
    assert list(zip(matches.rows, matches.columns, strict=True)) == [(0, 2), (2, 1)]
    assert list(zip(junk.rows, junk.columns, strict=True)) == [(0, 0), (0, 3)]
