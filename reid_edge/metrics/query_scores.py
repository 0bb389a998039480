"""What every query scores: a number each, in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reid_edge.metrics.checks import IntegerArray, LabelledFeatures
from reid_edge.metrics.inner_products import BlockFunction
from reid_edge.metrics.matches import GalleryIndex, Pairs
from reid_edge.metrics.ranks import ranks_of
from reid_edge.metrics.single_gallery_shot import GalleryDraws

# A float32 distance, the copy of it in oneDNN's layout, and as much again to rank with.
_BYTES_PER_DISTANCE = 16


@dataclass(frozen=True)
class QueryScores:
    """Scores of the queries that have a match, in the queries' order.

    Attributes:
        average_precision: mean of the precision at each match, shape (queries,).
        inverse_negative_penalty: matches / rank of the last match, shape (queries,).
        cumulative_matching: whether a match is among the first (or how often, where galleries
            are drawn), shape (queries, ranks).
    """

    average_precision: npt.NDArray[np.float64]
    inverse_negative_penalty: npt.NDArray[np.float64]
    cumulative_matching: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.average_precision)


def score_queries(
    queries: LabelledFeatures,
    values: BlockFunction,
    index: GalleryIndex,
    ranks: Sequence[int],
    draws: GalleryDraws | None,
    block_bytes: int,
) -> QueryScores:
    """Rank the gallery for every query, block by block, and score each.

    Args:
        queries: the queries.
        values: gives a block of queries the values that its gallery is ranked by.
        index: the gallery, grouped by identity.
        ranks: at which ranks to look for a match.
        draws: galleries for the cumulative matching; None measures it on the whole gallery.
        block_bytes: memory for a block; at least one query is worked on at a time.
    """
    rows = max(1, block_bytes // bytes_per_query(len(index)))
    scores = [
        _score_block(queries[start : start + rows], values, index, ranks, draws, block_bytes // 2)
        for start in range(0, len(queries), rows)
    ]
    return QueryScores(
        np.concatenate([score.average_precision for score in scores]),
        np.concatenate([score.inverse_negative_penalty for score in scores]),
        np.concatenate([score.cumulative_matching for score in scores]),
    )


def bytes_per_query(gallery: int) -> int:
    """Return how much memory it takes to rank a gallery of so many images for one query."""
    return _BYTES_PER_DISTANCE * gallery


def _score_block(
    queries: LabelledFeatures,
    values: BlockFunction,
    index: GalleryIndex,
    ranks: Sequence[int],
    draws: GalleryDraws | None,
    working_bytes: int,
) -> QueryScores:
    matches, junk = index.matches_and_junk(queries.ids, queries.cameras)
    distances = values(queries.features)
    distances[torch.from_numpy(junk.rows), torch.from_numpy(junk.columns)] = math.inf
    places = ranks_of(distances, matches, working_bytes)
    if draws is None:
        return _scores(places, matches, _found_by(places, matches, ranks))
    return _scores(
        places, matches, draws.cumulative_matching(distances, queries.ids, matches, ranks)
    )


def _found_by(
    places: IntegerArray, matches: Pairs, ranks: Sequence[int]
) -> npt.NDArray[np.float64]:
    first = matches.groups()[1]
    best = np.minimum.reduceat(places, first) if len(first) else places
    return (best[:, None] <= np.asarray(ranks)).astype(np.float64)


def _scores(places: IntegerArray, matches: Pairs, found_by: npt.NDArray[np.float64]) -> QueryScores:
    return QueryScores(*score_places(places, matches), found_by)


def score_places(
    places: IntegerArray, matches: Pairs
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Score each query from the ranks of its matches.

    Args:
        places: ranks from 1, in any order within a query, shape (pairs,).
        matches: whose ranks these are.

    Returns:
        Average precision and inverse negative penalty of the queries that have a match, each of
        shape (queries with a match,).
    """
    rows, first, counts = matches.groups()
    ascending = places[np.lexsort((places, matches.rows))]
    hits = np.arange(1, len(places) + 1) - np.repeat(first, counts)
    precision = np.bincount(matches.rows, weights=hits / ascending)[rows]
    return precision / counts, counts / ascending[first + counts - 1]
