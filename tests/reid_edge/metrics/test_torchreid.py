"""Ranking equals the real torchreid's: ``pip install torchreid==0.2.5`` to run these.

Ties: torchreid sorts with NumPy's default argsort, which is not stable, so that among gallery
images at equal distances the order, and with it rank-1 and mAP, depends on the size of the
gallery and on NumPy's version and processor. Here they keep the gallery's order. Two things are
shown: given distances in which ties are broken that way, torchreid finds the same numbers; and
what it makes of the ties itself is between the best and the worst order.

Small galleries: torchreid fails where fewer images than ranks asked for are left after dropping
a query's own camera, so it is asked for no more than that.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from reid_edge.core.errors import DataError
from reid_edge.metrics import evaluate_ranking
from reid_edge.metrics.distances import cosine_distance, euclidean_distance

Numbers = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
EvaluateRank = Callable[..., tuple[Numbers, float]]
CASES = 50
# torchreid's Cython, where that is built, computes in single precision.
PRECISION = 1e-6


@pytest.fixture(scope="module")
def evaluate_rank() -> EvaluateRank:
    rank = pytest.importorskip("torchreid.reid.metrics.rank", exc_type=ImportError)
    return rank.evaluate_rank  # type: ignore[no-any-return]


class Case:
    """Random queries and gallery: every third one has ties, every fifth a tiny gallery."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.ties = seed % 3 == 0
        self.distance = ("cosine", "euclidean")[seed % 2]
        queries = int(generator.integers(1, 20))
        gallery = int(generator.integers(2, 8) if seed % 5 == 0 else generator.integers(8, 120))
        identities, cameras = int(generator.integers(2, 9)), int(generator.integers(2, 4))

        def features(count: int) -> torch.Tensor:
            if self.ties:  # of equal length, with whole inner products: their ties are exact
                return torch.from_numpy(generator.choice([-1.0, 1.0], (count, 4))).float()
            return torch.from_numpy(generator.normal(size=(count, 16))).float()

        self.query, self.gallery = features(queries), features(gallery)
        # One identity more among the queries: some have no match.
        self.query_ids = generator.integers(0, identities + 1, queries)
        self.gallery_ids = generator.integers(0, identities, gallery)
        self.query_cameras = generator.integers(0, cameras, queries)
        self.gallery_cameras = generator.integers(0, cameras, gallery)

    @property
    def labels(self) -> tuple[Labels, Labels, Labels, Labels]:
        """In torchreid's order."""
        return self.query_ids, self.gallery_ids, self.query_cameras, self.gallery_cameras

    def distances(self) -> Numbers:
        measure = cosine_distance if self.distance == "cosine" else euclidean_distance
        return measure(self.query, self.gallery).numpy()

    def junk(self) -> npt.NDArray[np.bool_]:
        return (self.query_ids[:, None] == self.gallery_ids) & (
            self.query_cameras[:, None] == self.gallery_cameras
        )

    def matches(self) -> npt.NDArray[np.bool_]:
        return (self.query_ids[:, None] == self.gallery_ids) & ~self.junk()

    def max_rank(self) -> int:
        return min(20, int((~self.junk()).sum(1).min()))

    def ours(self) -> tuple[Numbers, float, int]:
        """CMC from rank 1, mAP, and the number of queries without a match."""
        result = evaluate_ranking(
            self.query, *map(torch.from_numpy, (self.query_ids, self.query_cameras)),
            self.gallery, *map(torch.from_numpy, (self.gallery_ids, self.gallery_cameras)),
            distance=self.distance,  # type: ignore[arg-type]
            ranks=range(1, self.max_rank() + 1),
        )  # fmt: skip
        matching = np.array(list(result.cumulative_matching.values()))
        return matching, result.mean_average_precision, result.queries_without_match


def without_ties(distances: Numbers, preferred: npt.NDArray[np.bool_] | None = None) -> Numbers:
    """Replace distances by places: ties in the gallery's order, or preferred images first."""
    places = np.empty(distances.shape, dtype=np.float32)
    for row, values in enumerate(distances):
        second = np.zeros(len(values)) if preferred is None else ~preferred[row]
        places[row, np.lexsort((second, values))] = np.arange(len(values))
    return places


@pytest.mark.parametrize("seed", range(CASES))
def test_ranking_equals_torchreid(evaluate_rank: EvaluateRank, seed: int) -> None:
    case = Case(seed)
    if not case.matches().any():
        with pytest.raises(DataError, match="none of the"):
            case.ours()
        with pytest.raises(AssertionError, match="do not appear in gallery"):
            evaluate_rank(case.distances(), *case.labels, max_rank=1)
        return
    matching, precision, left_out = case.ours()
    broken = without_ties(case.distances())
    theirs = evaluate_rank(broken, *case.labels, max_rank=case.max_rank())
    assert matching == pytest.approx(theirs[0], abs=1e-6)
    assert precision == pytest.approx(theirs[1], abs=PRECISION)
    assert left_out == int((~case.matches().any(1)).sum())
    if not case.ties:
        as_it_is = evaluate_rank(case.distances(), *case.labels, max_rank=case.max_rank())
        assert precision == pytest.approx(as_it_is[1], abs=PRECISION)


@pytest.mark.parametrize("seed", [seed for seed in range(CASES) if Case(seed).ties])
def test_what_torchreid_makes_of_ties_is_one_of_many(
    evaluate_rank: EvaluateRank, seed: int
) -> None:
    case = Case(seed)
    if not case.matches().any():
        return
    options = {"max_rank": case.max_rank()}
    distances, matches = case.distances(), case.matches()
    _, best = evaluate_rank(without_ties(distances, matches), *case.labels, **options)
    _, worst = evaluate_rank(without_ties(distances, ~matches), *case.labels, **options)
    _, theirs = evaluate_rank(distances, *case.labels, **options)
    assert worst - PRECISION <= theirs <= best + PRECISION
    assert worst - PRECISION <= case.ours()[1] <= best + PRECISION


def test_the_cases_hold_what_they_are_to_show() -> None:
    cases = [Case(seed) for seed in range(CASES)]
    assert sum(len(case.gallery_ids) < 8 for case in cases) >= 10
    assert sum(bool((~case.matches().any(1)).any()) for case in cases) >= 10
    tied = [case for case in cases if case.ties]
    assert all(len(np.unique(row)) < len(row) for case in tied if len(case.gallery_ids) > 8
               for row in case.distances())  # fmt: skip
    assert len(tied) >= 15
