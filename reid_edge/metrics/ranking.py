"""Ranking metrics of person re-identification: CMC, mAP and mINP, in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.data.schema import PROTOCOLS, Protocol
from reid_edge.metrics.distances import (
    BlockFunction,
    IntegerArray,
    LabelledFeatures,
    float32_arithmetic,
    integer_labels,
    query_and_gallery,
    ranking_values,
    refuse_non_finite,
)
from reid_edge.metrics.ranks import GalleryIndex, Pairs, ranks_of
from reid_edge.metrics.results import Distance, RankingResult

RANKS = (1, 5, 10, 20)
BLOCK_BYTES = 64 * 2**20
REPEATS = 100
NEAREST = 10

# A float32 distance, the copy of it in oneDNN's layout, and as much again to rank with.
_BYTES_PER_DISTANCE = 16


def evaluate_ranking(
    query_features: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor,
    gallery_features: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor,
    *,
    distance: Distance = "cosine",
    ranks: Sequence[int] = RANKS,
    protocol: Protocol = "market1501",
    block_bytes: int = BLOCK_BYTES,
    seed: int = 0,
) -> RankingResult:
    """Rank a gallery for every query and measure where the query's identity is found.

    Protocol ``"market1501"`` (Zheng et al., "Scalable Person Re-identification", ICCV 2015):
    gallery images of the query's identity from the query's camera are junk and are dropped; a
    query with no match left is left out and counted. Average precision is the mean of the
    precision at each match, as in torchreid and FastReID. mINP is that of Ye et al., "Deep
    Learning for Person Re-identification" (TPAMI 2021).

    Protocol ``"single_gallery_shot"``: CUHK03's classic one. CMC is measured against galleries of
    one random image per identity, 100 times (see `GalleryDraws`); mAP and mINP are those above,
    over the whole gallery, as in torchreid.

    Ties: images at equal distances keep the gallery's order, as in a stable argsort of the row
    of distances. Distances are computed in float32, in blocks of queries.

    A rank beyond the end of the gallery is allowed: there CMC keeps its last value, which is 1,
    since every measured query has a match somewhere.

    Args:
        query_features: shape (queries, dimensions); computing takes place on their device.
        query_ids: integers, shape (queries,).
        query_cameras: integers, shape (queries,).
        gallery_features: shape (gallery, dimensions).
        gallery_ids: integers, shape (gallery,).
        gallery_cameras: integers, shape (gallery,).
        distance: ``"cosine"``, or ``"euclidean"`` on the features as they are.
        ranks: at which ranks to give CMC, from 1.
        protocol: ``"market1501"`` or ``"single_gallery_shot"``.
        block_bytes: memory for a block of distances; at least one query is worked on at a time.
            Beyond it the gallery's features are copied, twice while they are normalised.
        seed: of the random galleries of ``"single_gallery_shot"``.

    Raises:
        DataError: a set is empty, shapes do not belong together, features are not finite, an
            option is unknown, or no query at all has a match in the gallery.
    """
    check_options(ranks, protocol)
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )
    with float32_arithmetic(query_features.device):
        values = ranking_values(queries.features, gallery.features, distance)
        return _rank(queries, gallery, values, distance, ranks, protocol, block_bytes, seed)


def evaluate_distances(
    distances: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor,
    *,
    distance: str,
    ranks: Sequence[int] = RANKS,
    protocol: Protocol = "market1501",
    block_bytes: int = BLOCK_BYTES,
    seed: int = 0,
) -> RankingResult:
    """Rank by given distances, as after re-ranking; the rest is as in `evaluate_ranking`.

    Args:
        distances: smaller for images more alike, shape (queries, gallery).
        query_ids: integers, shape (queries,).
        query_cameras: integers, shape (queries,).
        gallery_ids: integers, shape (gallery,).
        gallery_cameras: integers, shape (gallery,).
        distance: name of the distances in the result.
        ranks: at which ranks to give CMC, from 1.
        protocol: ``"market1501"`` or ``"single_gallery_shot"``.
        block_bytes: memory to work with; at least one query is worked on at a time.
        seed: of the random galleries of ``"single_gallery_shot"``.

    Raises:
        DataError: shapes do not belong together, distances are not finite, an option is unknown,
            or no query at all has a match in the gallery.
    """
    check_options(ranks, protocol)
    if distances.ndim != 2 or distances.numel() == 0:
        raise DataError(f"distances have shape {tuple(distances.shape)}; expected a filled matrix")
    table = distances.detach().float()
    refuse_non_finite("rows of distances", table)
    # The only feature of a row or a column is its place.
    queries, gallery = (
        LabelledFeatures(
            torch.arange(count)[:, None],
            integer_labels(f"{name} ids", ids, count),
            integer_labels(f"{name} cameras", cameras, count),
        )
        for name, ids, cameras, count in (
            ("query", query_ids, query_cameras, table.shape[0]),
            ("gallery", gallery_ids, gallery_cameras, table.shape[1]),
        )
    )

    def values(rows: Tensor) -> Tensor:
        # A copy for each block: junk is overwritten in it.
        return table[rows.flatten()].clone()

    return _rank(queries, gallery, values, distance, ranks, protocol, block_bytes, seed)


def check_options(ranks: Sequence[int], protocol: str) -> None:
    """Raise DataError if the protocol is unknown or there are no ranks, or one below 1."""
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    if not ranks or any(rank < 1 for rank in ranks):
        raise DataError(f"ranks must be numbers from 1, got {list(ranks)}")


def _rank(
    queries: LabelledFeatures,
    gallery: LabelledFeatures,
    values: BlockFunction,
    distance: str,
    ranks: Sequence[int],
    protocol: str,
    block_bytes: int,
    seed: int,
) -> RankingResult:
    """Rank the gallery by ``values`` for every query, block by block, and average the scores."""
    index = GalleryIndex.build(gallery.ids, gallery.cameras)
    draws = GalleryDraws(index, seed) if protocol == "single_gallery_shot" else None
    precisions, penalties, matching = [], [], []
    for block, distances, matches in _blocks(queries, values, index, block_bytes):
        places = ranks_of(distances, matches, block_bytes // 2)
        precision, penalty, first = score_places(places, matches)
        precisions.append(precision)
        penalties.append(penalty)
        matching.append(
            (first[:, None] <= np.asarray(ranks)).astype(np.float64)
            if draws is None
            else draws.cumulative_matching(distances, block.ids, matches, ranks)
        )
        del distances  # before the next block is made
    precision, penalty, found = map(np.concatenate, (precisions, penalties, matching))
    if len(precision) == 0:
        if not np.isin(queries.ids, gallery.ids).any():
            raise DataError(f"none of the {len(queries)} queries' identities is in the gallery")
        raise DataError(
            f"none of the {len(queries)} queries has a match in the gallery: every image of a "
            "query's identity has the query's camera id, and such images are dropped; "
            "the usual cause is one single camera id for the whole set"
        )

    def mean(scores: npt.NDArray[np.float64]) -> float:
        # An exact sum: the order of the queries must not show in the result.
        return math.fsum(scores) / len(scores)

    return RankingResult(
        mean_average_precision=mean(precision),
        mean_inverse_negative_penalty=mean(penalty),
        cumulative_matching={rank: mean(found[:, i]) for i, rank in enumerate(ranks)},
        queries=len(precision),
        queries_without_match=len(queries) - len(precision),
        distance=distance,
        protocol=protocol,
    )


@dataclass(frozen=True)
class QueryRanking:
    """What a query finds in the gallery without its junk, images of its person and camera.

    Attributes:
        average_precision: the mean of the precision at each match; None without a match.
        first_match: the rank of the first match, from 1; None without a match.
        nearest: gallery images by their place in the gallery, the nearest first.
    """

    average_precision: float | None
    first_match: int | None
    nearest: tuple[int, ...]


def rank_queries(
    query_features: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor,
    gallery_features: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor,
    *,
    distance: Distance = "cosine",
    nearest: int = NEAREST,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[QueryRanking]:
    """Rank the gallery for every query as `evaluate_ranking` does, and yield what each one finds.

    Queries without a match are included. Ties keep the gallery's order.

    Args:
        query_features: as for `evaluate_ranking`, like the next five.
        query_ids: integers, shape (queries,).
        query_cameras: integers, shape (queries,).
        gallery_features: shape (gallery, dimensions).
        gallery_ids: integers, shape (gallery,).
        gallery_cameras: integers, shape (gallery,).
        distance: ``"cosine"`` or ``"euclidean"``.
        nearest: number of gallery images to name at most.
        block_bytes: memory for a block of distances; at least one query is worked on at a time.

    Raises:
        DataError: a set is empty, shapes do not belong together or features are not finite.
    """
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )
    device = query_features.device
    index = GalleryIndex.build(gallery.ids, gallery.cameras)
    with float32_arithmetic(device):
        values = ranking_values(queries.features, gallery.features, distance)

    def exact_values(rows: Tensor) -> Tensor:
        # Not around the loop: the caller runs between two blocks.
        with float32_arithmetic(device):
            return values(rows)

    for _, distances, matches in _blocks(queries, exact_values, index, block_bytes):
        places = ranks_of(distances, matches, block_bytes // 2)
        precision, _, first = score_places(places, matches)
        rows = matches.groups()[0].tolist()
        scores = dict(zip(rows, zip(precision.tolist(), first.tolist(), strict=True), strict=True))
        for row, line in enumerate(distances.cpu().numpy()):
            count = min(nearest, int(np.isfinite(line).sum()))
            candidates: IntegerArray = np.empty(0, dtype=np.int64)
            if count:
                candidates = np.flatnonzero(line <= np.partition(line, count - 1)[count - 1])
            in_order = candidates[np.argsort(line[candidates], kind="stable")][:count]
            score, rank = scores.get(row, (None, None))
            yield QueryRanking(score, rank, tuple(in_order.tolist()))
        del distances, line  # before the next block is made


def _blocks(
    queries: LabelledFeatures, values: BlockFunction, index: GalleryIndex, block_bytes: int
) -> Iterator[tuple[LabelledFeatures, Tensor, Pairs]]:
    """Yield blocks of queries, their distances with junk at infinity, and their matches."""
    rows = max(1, block_bytes // (_BYTES_PER_DISTANCE * len(index)))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        matches, junk = index.matches_and_junk(block.ids, block.cameras)
        distances = values(block.features)
        distances[torch.from_numpy(junk.rows), torch.from_numpy(junk.columns)] = math.inf
        yield block, distances, matches
        del distances  # as the caller does: two blocks would take twice the memory


def score_places(
    places: IntegerArray, matches: Pairs
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], IntegerArray]:
    """Score each query from the ranks of its matches.

    Args:
        places: ranks from 1, in any order within a query, shape (pairs,).
        matches: whose ranks these are.

    Returns:
        Average precision, inverse negative penalty (matches / rank of the last match) and rank of
        the first match of the queries that have a match, each of shape (queries with a match,).
    """
    rows, first, counts = matches.groups()
    ascending = places[np.lexsort((places, matches.rows))]
    hits = np.arange(1, len(places) + 1) - np.repeat(first, counts)
    precision = np.bincount(matches.rows, weights=hits / ascending)[rows]
    return precision / counts, counts / ascending[first + counts - 1], ascending[first]


class GalleryDraws:
    """One hundred galleries of one random image per identity, the same for every query.

    As in the protocol (Li et al., "DeepReID", CVPR 2014, and torchreid's ``eval_cuhk03``), except
    that torchreid draws 10 new galleries for each query. Drawn once, a query's result does not
    depend on the other queries. Only for the query's own identity each query has its own drawn
    image, since junk must not be drawn: the same random number picks among the query's matches.
    """

    def __init__(self, index: GalleryIndex, seed: int) -> None:
        """Draw the galleries.

        Args:
            index: the gallery, grouped by identity.
            seed: of the random numbers.
        """
        self.identities, first, counts = index.identities()
        shape = (REPEATS, len(self.identities))
        self._fractions = np.random.default_rng(seed).random(shape)
        self._images: IntegerArray = index.order[first + self._pick(self._fractions, counts)]

    @staticmethod
    def _pick(fractions: npt.NDArray[np.float64], counts: IntegerArray) -> IntegerArray:
        """Turn fractions of [0, 1) into numbers below the counts."""
        picked: IntegerArray = (fractions * counts).astype(np.int64)
        # The product of a fraction just below one and a large count can round up to the count.
        return np.minimum(picked, counts - 1)

    def cumulative_matching(
        self, distances: Tensor, query_ids: IntegerArray, matches: Pairs, ranks: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return how often a match is among the first, by query and rank.

        Args:
            distances: float32, shape (block, gallery).
            query_ids: shape (block,).
            matches: the queries' matches; queries without one are left out.
            ranks: at which ranks to look.

        Returns:
            Shares of the repeats, shape (queries with a match, ranks).
        """
        device = distances.device
        rows, first, counts = matches.groups()
        own = np.searchsorted(self.identities, query_ids[rows])
        own_place = torch.from_numpy(own).to(device)
        distances = distances[torch.from_numpy(rows).to(device)]
        block = torch.arange(len(distances), device=device)
        found = np.zeros((len(rows), len(ranks)))
        for fractions, images in zip(self._fractions, self._images, strict=True):
            drawn = matches.columns[first + self._pick(fractions[own], counts)]
            # The rank of the drawn match among the drawn images of the other identities.
            others = torch.from_numpy(images).to(device)
            match = torch.from_numpy(drawn).to(device)[:, None]
            values, wanted = distances[:, others], distances.gather(1, match)
            before = (values < wanted) | ((values == wanted) & (others < match))
            before[block, own_place] = False
            places = (before.sum(1) + 1).cpu().numpy()
            found += places[:, None] <= np.asarray(ranks)
        return found / REPEATS
