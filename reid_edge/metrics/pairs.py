"""Cosine similarities of genuine and impostor pairs between queries and a gallery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.distances import (
    IntegerArray,
    LabelledFeatures,
    float32_arithmetic,
    inner_products_with,
    labelled_features,
    query_and_gallery,
    unit_length,
)

BooleanMatrix = npt.NDArray[np.bool_]

BLOCK_BYTES = 64 * 2**20
MAXIMUM_IMPOSTORS = 10_000_000
# A float32 similarity, the copy of it in oneDNN's layout, and two flags while pairs are classified.
_BYTES_PER_SIMILARITY = 16


@dataclass(frozen=True)
class PairScores:
    """Scored pairs, ready for `evaluate_verification`.

    Attributes:
        genuine: cosine similarities of all pairs of one identity, float32, shape (genuine,).
        impostor: those of pairs of two identities, all of them or a sample, shape (impostor,).
        impostor_pairs: number of impostor pairs, sampled or not.
    """

    genuine: Tensor
    impostor: Tensor
    impostor_pairs: int

    @property
    def sampled(self) -> bool:
        """Whether only a sample of the impostor pairs was kept."""
        return len(self.impostor) < self.impostor_pairs

    @property
    def missing(self) -> str | None:
        """The kind of pairs that there are none of, "genuine" or "impostor"; None if neither."""
        if not len(self.genuine):
            return "genuine"
        return None if len(self.impostor) else "impostor"

    @property
    def scores(self) -> Tensor:
        """All scores, the genuine ones first, shape (genuine + impostor,)."""
        return torch.cat((self.genuine, self.impostor))

    @property
    def same(self) -> Tensor:
        """Whether each of `scores` is of a genuine pair, bool, shape (genuine + impostor,)."""
        return torch.arange(len(self.genuine) + len(self.impostor)) < len(self.genuine)


def pair_scores(
    query_features: Tensor,
    query_ids: Tensor,
    gallery_features: Tensor,
    gallery_ids: Tensor,
    *,
    query_cameras: Tensor | None = None,
    gallery_cameras: Tensor | None = None,
    maximum_impostors: int = MAXIMUM_IMPOSTORS,
    block_bytes: int = BLOCK_BYTES,
    seed: int = 0,
) -> PairScores:
    """Score every query against every gallery image.

    Genuine scores are all kept. Impostor scores are all kept, and every metric is exact, as long
    as queries times gallery images is at most the maximum. Above it that many pairs are drawn,
    evenly: all pairs in order are cut into as many equal stretches, and one pair of each is drawn
    at random. Impostors among these are kept.

    A set scored against itself pairs every image with itself too, a genuine pair of score 1;
    giving cameras leaves these out.

    Args:
        query_features: shape (queries, dimensions); computing takes place on their device.
        query_ids: integers, shape (queries,).
        gallery_features: shape (gallery, dimensions).
        gallery_ids: integers, shape (gallery,).
        query_cameras: if given, with the gallery's, genuine pairs of one camera are left out, as
            in ranking. Impostor pairs of one camera stay: strangers pass the same camera, and they
            are more alike than those of two. Integers, shape (queries,).
        gallery_cameras: integers, shape (gallery,).
        maximum_impostors: number of impostor scores to keep at most.
        block_bytes: memory for a block of similarities; at least one query is worked on at a time.
        seed: of the random sample.

    Returns:
        The scores, on the CPU.

    Raises:
        DataError: a set is empty, shapes do not belong together, features are not finite,
            cameras are given for one set only, or the maximum is below 1.
    """
    if (query_cameras is None) != (gallery_cameras is None):
        raise DataError("cameras are given for one of query and gallery; give both or neither")
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )

    def without_junk(_start: int, block: LabelledFeatures) -> BooleanMatrix:
        counted: BooleanMatrix = block.cameras[:, None] != gallery.cameras
        counted |= block.ids[:, None] != gallery.ids
        return counted

    counts = without_junk if query_cameras is not None else None
    return _score(queries, gallery, counts, maximum_impostors, block_bytes, seed)


def pair_scores_within(
    features: Tensor,
    ids: Tensor,
    *,
    maximum_impostors: int = MAXIMUM_IMPOSTORS,
    block_bytes: int = BLOCK_BYTES,
    seed: int = 0,
) -> PairScores:
    """Score every image of a set against every other one, each pair once.

    This is how faces are verified, where there are neither cameras nor a gallery.

    Args:
        features: shape (images, dimensions); computing takes place on their device.
        ids: integers, shape (images,).
        maximum_impostors: above half as many pairs (each counts in both directions) impostors are
            sampled as `pair_scores` does.
        block_bytes: memory for a block of similarities; at least one row is worked on at a time.
        seed: of the random sample.

    Returns:
        The scores, on the CPU.

    Raises:
        DataError: the set is empty, shapes do not belong together, features are not finite, or
            the maximum is below 1.
    """
    images = labelled_features("test", features, ids, None, features.device)
    places = np.arange(len(images))

    def later_images(start: int, block: LabelledFeatures) -> BooleanMatrix:
        later: BooleanMatrix = places[start : start + len(block), None] < places
        return later

    return _score(images, images, later_images, maximum_impostors, block_bytes, seed)


def _score(
    queries: LabelledFeatures,
    gallery: LabelledFeatures,
    counts: Callable[[int, LabelledFeatures], BooleanMatrix] | None,
    maximum_impostors: int,
    block_bytes: int,
    seed: int,
) -> PairScores:
    """Score the pairs of queries and gallery, block by block.

    ``counts`` says which pairs count, from the first row of a block and the block to a matrix
    (block, gallery); None counts all.
    """
    if maximum_impostors < 1:
        raise DataError(
            f"at most {maximum_impostors} impostor pairs are asked for; expected 1 or more"
        )
    pairs = len(queries) * len(gallery)
    drawn = None if pairs <= maximum_impostors else _draw(pairs, maximum_impostors, seed)
    rows = max(1, block_bytes // (_BYTES_PER_SIMILARITY * len(gallery)))
    genuine_scores, impostor_scores, impostor_pairs = [], [], 0
    with float32_arithmetic(queries.features.device):
        products = inner_products_with(unit_length(gallery.features))
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            genuine = block.ids[:, None] == gallery.ids
            impostor = ~genuine
            if counts is not None:
                counted = counts(start, block)
                genuine &= counted
                impostor &= counted
            similarities = products(unit_length(block.features)).cpu().numpy()
            genuine_scores.append(similarities[genuine])
            impostor_pairs += int(impostor.sum())
            if drawn is None:
                impostor_scores.append(similarities[impostor])
                continue
            first = start * len(gallery)
            bounds = np.searchsorted(drawn, (first, first + similarities.size))
            places = drawn[slice(*bounds)] - first
            impostor_scores.append(similarities.ravel()[places[impostor.ravel()[places]]])
    return PairScores(
        torch.from_numpy(np.concatenate(genuine_scores)),
        torch.from_numpy(np.concatenate(impostor_scores)),
        impostor_pairs,
    )


def _draw(pairs: int, count: int, seed: int) -> IntegerArray:
    """Draw one number of each of `count` equal stretches of the numbers below `pairs`."""
    width, rest = divmod(pairs, count)
    numbers = np.arange(count + 1, dtype=np.int64)
    # Number * pairs // count, which could be too large for 64 bits on the way.
    edges = numbers * width + numbers * rest // count
    widths = np.diff(edges)
    steps: IntegerArray = (np.random.default_rng(seed).random(count) * widths).astype(np.int64)
    drawn: IntegerArray = edges[:-1] + np.minimum(steps, widths - 1)
    return drawn
