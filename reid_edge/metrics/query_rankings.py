"""What each query finds, to see which ones fail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.metrics.checks import IntegerArray, LabelledFeatures, query_and_gallery
from reid_edge.metrics.distances import Distance, ranking_values
from reid_edge.metrics.inner_products import float32_arithmetic
from reid_edge.metrics.matches import GalleryIndex
from reid_edge.metrics.query_scores import bytes_per_query, score_places
from reid_edge.metrics.ranking import BLOCK_BYTES
from reid_edge.metrics.ranks import ranks_of

NEAREST = 10


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

    Queries without a match, which are left out there, are not here. Ties keep the gallery's order.

    Args:
        query_features: as for `evaluate_ranking`, like the next five.
        query_ids: integers, shape (queries,).
        query_cameras: integers, shape (queries,).
        gallery_features: shape (gallery, dimensions).
        gallery_ids: integers, shape (gallery,).
        gallery_cameras: integers, shape (gallery,).
        distance: ``"cosine"`` or ``"euclidean"``.
        nearest: how many gallery images to name at most.
        block_bytes: memory for a block of distances; at least one query is worked on at a time.

    Raises:
        DataError: if a set is empty, shapes do not belong together or features are not finite.
    """
    device = query_features.device
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )
    index = GalleryIndex.build(gallery.ids, gallery.cameras)
    rows = max(1, block_bytes // bytes_per_query(len(index)))
    with float32_arithmetic(device):
        values = ranking_values(queries.features, gallery.features, distance)
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        with float32_arithmetic(device):
            distances = values(block.features)
        yield from _rank_block(block, distances, index, nearest, block_bytes // 2)


def _rank_block(
    queries: LabelledFeatures,
    distances: Tensor,
    index: GalleryIndex,
    nearest: int,
    working_bytes: int,
) -> Iterator[QueryRanking]:
    matches, junk = index.matches_and_junk(queries.ids, queries.cameras)
    distances[torch.from_numpy(junk.rows), torch.from_numpy(junk.columns)] = math.inf
    places = ranks_of(distances, matches, working_bytes)
    found, first, _ = matches.groups()
    precisions = score_places(places, matches)[0]
    earliest = np.minimum.reduceat(places, first) if len(first) else places
    scores = dict(
        zip(found.tolist(), zip(precisions.tolist(), earliest.tolist(), strict=True), strict=True)
    )
    for row, line in enumerate(distances.cpu().numpy()):
        precision, rank = scores.get(row, (None, None))
        yield QueryRanking(precision, rank, tuple(_nearest(line, nearest).tolist()))


def _nearest(line: npt.NDArray[np.float32], count: int) -> IntegerArray:
    """Give the places of the least values, in order; of equal ones the earlier first."""
    count = min(count, int(np.isfinite(line).sum()))
    if count == 0:
        return np.empty(0, dtype=np.int64)
    candidates = np.flatnonzero(line <= np.partition(line, count - 1)[count - 1])
    order: IntegerArray = candidates[np.argsort(line[candidates], kind="stable")][:count]
    return order
