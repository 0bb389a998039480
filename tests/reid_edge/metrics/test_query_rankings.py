"""What each query finds, against a plain sort."""

import numpy as np
import pytest
import torch

from reid_edge.core.errors import DataError
from reid_edge.metrics import evaluate_ranking
from reid_edge.metrics.ranking import rank_queries


def random_sets(seed=0, queries=15, gallery=60, identities=9):
    generator = np.random.default_rng(seed)
    sets = []
    for count in (queries, gallery):
        # Signs: every length is 4 and products are small integers, so that many images tie.
        sets.append(torch.from_numpy(generator.choice([-1.0, 1.0], (count, 16))).float())
        sets.append(torch.from_numpy(generator.integers(0, identities, count)))
        sets.append(torch.from_numpy(generator.integers(0, 2, count)))
    # One query's identity is not in the gallery, one is there on the query's camera alone.
    sets[1][:2] = torch.tensor([identities, identities + 1])
    sets[4][0], sets[5][0] = identities + 1, sets[2][1]
    return sets


@pytest.mark.parametrize("block_bytes", [1, 5000, 2**26])
def test_equals_a_stable_sort(block_bytes):
    sets = random_sets()
    queries, query_ids, query_cameras, gallery, gallery_ids, gallery_cameras = sets
    found = list(rank_queries(*sets, nearest=5, block_bytes=block_bytes))
    assert len(found) == len(queries)
    for row, ranking in enumerate(found):
        same = gallery_ids == query_ids[row]
        junk = same & (gallery_cameras == query_cameras[row])
        order = torch.argsort(-(gallery @ queries[row]), stable=True)
        order = order[~junk[order]]
        assert ranking.nearest == tuple(order[:5].tolist())
        places = 1 + torch.nonzero(same[order]).flatten().numpy()
        if len(places) == 0:
            assert (ranking.average_precision, ranking.first_match) == (None, None)
            continue
        assert ranking.first_match == places[0]
        expected = (np.arange(1, len(places) + 1) / places).mean()
        assert ranking.average_precision == pytest.approx(expected)
    assert sum(ranking.first_match is None for ranking in found) >= 2


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_its_mean_is_the_mean_average_precision(distance):
    sets = random_sets(1)
    found = rank_queries(*sets, distance=distance)
    precisions = [
        ranking.average_precision for ranking in found if ranking.average_precision is not None
    ]
    result = evaluate_ranking(*sets, distance=distance)
    assert len(precisions) == result.queries
    assert np.mean(precisions) == pytest.approx(result.mean_average_precision)


def test_a_gallery_of_fewer():
    sets = random_sets(gallery=4)
    found = list(rank_queries(*sets))
    assert all(len(ranking.nearest) <= 4 for ranking in found)
    # The second query's only image on its camera is dropped.
    assert len(found[1].nearest) == 3
    assert 0 not in found[1].nearest


def test_refuses_what_is_not_finite():
    sets = random_sets()
    sets[0][0, 0] = float("nan")
    with pytest.raises(DataError, match="1 of 15 query features are not finite"):
        list(rank_queries(*sets))
