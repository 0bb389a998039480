"""Ranking metrics of person re-identification: CMC, mAP and mINP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.data.schema import PROTOCOLS, Protocol
from reid_edge.metrics.checks import LabelledFeatures, query_and_gallery
from reid_edge.metrics.distances import Distance, ranking_values
from reid_edge.metrics.inner_products import float32_arithmetic
from reid_edge.metrics.matches import GalleryIndex
from reid_edge.metrics.query_scores import QueryScores, score_queries
from reid_edge.metrics.single_gallery_shot import GalleryDraws

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class RankingResult:
    """How well queries find their identity in a gallery; every share is between 0 and 1.

    Attributes:
        mean_average_precision: mAP, the mean over queries of the mean precision at each match.
        mean_inverse_negative_penalty: mINP, the mean of matches / rank of the last match.
        cumulative_matching: CMC, for each rank the share of queries with a match by then.
        queries: how many queries were measured.
        queries_without_match: how many were left out, having no match in the gallery.
        distance: what images were ranked by.
        protocol: by which rules.
    """

    mean_average_precision: float
    mean_inverse_negative_penalty: float
    cumulative_matching: dict[int, float]
    queries: int
    queries_without_match: int
    distance: str
    protocol: str = "market1501"

    def to_dict(self) -> dict[str, object]:
        """Give the result as values that JSON has; ranks become strings, as JSON's keys are."""
        return {
            "mean_average_precision": self.mean_average_precision,
            "mean_inverse_negative_penalty": self.mean_inverse_negative_penalty,
            "cumulative_matching": {str(r): v for r, v in self.cumulative_matching.items()},
            "queries": self.queries,
            "queries_without_match": self.queries_without_match,
            "distance": self.distance,
            "protocol": self.protocol,
        }


def evaluate_ranking(
    query_features: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor,
    gallery_features: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor,
    *,
    distance: Distance = "cosine",
    ranks: Sequence[int] = (1, 5, 10, 20),
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
            Beyond it the gallery's features are copied, twice while they are being normalised.
        seed: of the random galleries of ``"single_gallery_shot"``.

    Raises:
        DataError: if a set is empty, shapes do not belong together, features are not finite, an
            option is unknown, or no query at all has a match in the gallery.
    """
    check_options(ranks, protocol)
    device = query_features.device
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )
    index = GalleryIndex.build(gallery.ids, gallery.cameras)
    draws = GalleryDraws(index, seed) if protocol == "single_gallery_shot" else None
    with float32_arithmetic(device):
        values = ranking_values(queries.features, gallery.features, distance)
        scores = score_queries(queries, values, index, ranks, draws, block_bytes)
    return summarise(scores, queries, gallery, ranks=ranks, distance=distance, protocol=protocol)


def summarise(
    scores: QueryScores,
    queries: LabelledFeatures,
    gallery: LabelledFeatures,
    *,
    ranks: Sequence[int],
    distance: str,
    protocol: str,
) -> RankingResult:
    """Average what every query scores.

    Args:
        scores: of the queries that have a match.
        queries: all of them.
        gallery: what was searched.
        ranks: at which the scores have CMC.
        distance: what images were ranked by.
        protocol: by which rules.

    Raises:
        DataError: no query at all has a match in the gallery.
    """
    if len(scores) == 0:
        raise DataError(_why_no_match(queries, gallery))
    matching = scores.cumulative_matching
    return RankingResult(
        mean_average_precision=_mean(scores.average_precision),
        mean_inverse_negative_penalty=_mean(scores.inverse_negative_penalty),
        cumulative_matching={rank: _mean(matching[:, i]) for i, rank in enumerate(ranks)},
        queries=len(scores),
        queries_without_match=len(queries) - len(scores),
        distance=distance,
        protocol=protocol,
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    # An exact sum: the order of the queries must not show in the result.
    return math.fsum(values) / len(values)


def check_options(ranks: Sequence[int], protocol: str) -> None:
    """Raise DataError if the protocol is unknown or there are no ranks, or one below 1."""
    if protocol not in PROTOCOLS:
        raise DataError(f"unknown protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    if not ranks or any(rank < 1 for rank in ranks):
        raise DataError(f"ranks must be numbers from 1, got {list(ranks)}")


def _why_no_match(queries: LabelledFeatures, gallery: LabelledFeatures) -> str:
    if not np.isin(queries.ids, gallery.ids).any():
        return f"none of the {len(queries)} queries' identities is in the gallery"
    return (
        f"none of the {len(queries)} queries has a match in the gallery: every image of a "
        "query's identity has the query's camera id, and such images are dropped; "
        "the usual cause is one single camera id for the whole set"
    )
