"""Ranking metrics where the distances are given, as after re-ranking."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.data.schema import Protocol
from reid_edge.metrics.checks import LabelledFeatures, integer_labels, refuse_non_finite
from reid_edge.metrics.matches import GalleryIndex
from reid_edge.metrics.query_scores import score_queries
from reid_edge.metrics.ranking import (
    BLOCK_BYTES,
    RankingResult,
    check_options,
    summarise,
)
from reid_edge.metrics.single_gallery_shot import GalleryDraws


def evaluate_distances(
    distances: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor,
    *,
    distance: str,
    ranks: Sequence[int] = (1, 5, 10, 20),
    protocol: Protocol = "market1501",
    block_bytes: int = BLOCK_BYTES,
    seed: int = 0,
) -> RankingResult:
    """Rank by given distances; everything else is as in `reid_edge.metrics.evaluate_ranking`.

    Args:
        distances: smaller for images more alike, shape (queries, gallery).
        query_ids: integers, shape (queries,).
        query_cameras: integers, shape (queries,).
        gallery_ids: integers, shape (gallery,).
        gallery_cameras: integers, shape (gallery,).
        distance: what to call the distances in the result.
        ranks: at which ranks to give CMC, from 1.
        protocol: ``"market1501"`` or ``"single_gallery_shot"``.
        block_bytes: memory to work with; at least one query is worked on at a time.
        seed: of the random galleries of ``"single_gallery_shot"``.

    Raises:
        DataError: if shapes do not belong together, distances are not finite, an option is
            unknown, or no query at all has a match in the gallery.
    """
    check_options(ranks, protocol)
    if distances.ndim != 2 or distances.numel() == 0:
        raise DataError(f"distances have shape {tuple(distances.shape)}; expected a filled matrix")
    table = distances.detach().float()
    refuse_non_finite("rows of distances", table)
    queries = _rows("query", query_ids, query_cameras, len(table))
    gallery = _rows("gallery", gallery_ids, gallery_cameras, table.shape[1])
    index = GalleryIndex.build(gallery.ids, gallery.cameras)
    draws = GalleryDraws(index, seed) if protocol == "single_gallery_shot" else None
    # A copy for each block, since junk is struck out in it.
    scores = score_queries(
        queries, lambda rows: table[rows.flatten()].clone(), index, ranks, draws, block_bytes
    )
    return summarise(scores, queries, gallery, ranks=ranks, distance=distance, protocol=protocol)


def _rows(name: str, ids: Tensor, cameras: Tensor, count: int) -> LabelledFeatures:
    """Label rows or columns of a matrix: an image's only feature is its place."""
    return LabelledFeatures(
        torch.arange(count)[:, None],
        integer_labels(f"{name} ids", ids, count),
        integer_labels(f"{name} cameras", cameras, count),
    )
