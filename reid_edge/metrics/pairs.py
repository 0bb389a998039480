"""Cosine similarities of genuine and impostor pairs between queries and a gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.checks import (
    IntegerArray,
    LabelledFeatures,
    labelled_features,
    query_and_gallery,
)
from reid_edge.metrics.distances import unit_length
from reid_edge.metrics.inner_products import float32_arithmetic, inner_products_with

BLOCK_BYTES = 64 * 2**20
MAXIMUM_IMPOSTORS = 10_000_000
# A float32 similarity, the copy of it in oneDNN's layout, and two flags while pairs are told apart.
_BYTES_PER_SIMILARITY = 16


@dataclass(frozen=True)
class PairScores:
    """Scored pairs, ready for `evaluate_verification`.

    Attributes:
        genuine: cosine similarities of all pairs of one identity, float32, shape (genuine,).
        impostor: those of pairs of two identities, all of them or a sample, shape (impostor,).
        impostor_pairs: how many impostor pairs there are, sampled or not.
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
        """Which kind of pairs there are none of, "genuine" or "impostor"; None if neither."""
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
        maximum_impostors: how many impostor scores to keep at most.
        block_bytes: memory for a block of similarities; at least one query is worked on at a time.
        seed: of the random sample.

    Returns:
        The scores, on the CPU.

    Raises:
        DataError: if a set is empty, shapes do not belong together, features are not finite,
            cameras are given for one set only, or the maximum is below 1.
    """
    if (query_cameras is None) != (gallery_cameras is None):
        raise DataError("cameras are given for one of query and gallery; give both or neither")
    _check_maximum(maximum_impostors)
    device = query_features.device
    queries, gallery = query_and_gallery(
        query_features, query_ids, query_cameras, gallery_features, gallery_ids, gallery_cameras
    )
    pairs = len(queries) * len(gallery)
    drawn = None if pairs <= maximum_impostors else _draw(pairs, maximum_impostors, seed)
    counts = _no_junk if query_cameras is not None else None
    return _score(_blocks(queries, gallery, counts, block_bytes), drawn, device)


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
        DataError: if the set is empty, shapes do not belong together, features are not finite, or
            the maximum is below 1.
    """
    _check_maximum(maximum_impostors)
    images = labelled_features("test", features, ids, None, features.device)
    pairs = len(images) ** 2
    drawn = None if pairs <= maximum_impostors else _draw(pairs, maximum_impostors, seed)
    return _score(_blocks(images, images, _later_ones, block_bytes), drawn, features.device)


def _check_maximum(impostors: int) -> None:
    if impostors < 1:
        raise DataError(f"at most {impostors} impostor pairs are asked for; expected 1 or more")


def _score(
    blocks: Iterator[_Block], drawn: IntegerArray | None, device: torch.device
) -> PairScores:
    genuine, impostor, impostor_pairs = [], [], 0
    with float32_arithmetic(device):
        for block in blocks:
            genuine.append(block.similarities[block.genuine])
            impostor_pairs += int(block.impostor.sum())
            impostor.append(block.impostor_scores(drawn))
    return PairScores(
        torch.from_numpy(np.concatenate(genuine)),
        torch.from_numpy(np.concatenate(impostor)),
        impostor_pairs,
    )


@dataclass(frozen=True)
class _Block:
    """Similarities of some queries with the gallery, and which of them count as what.

    The arrays have shape (block, gallery); `first` is the number of pairs before the block.
    """

    first: int
    similarities: npt.NDArray[np.float32]
    genuine: npt.NDArray[np.bool_]
    impostor: npt.NDArray[np.bool_]

    def impostor_scores(self, drawn: IntegerArray | None) -> npt.NDArray[np.float32]:
        """Give the impostors' scores: all of them, or only of the pairs drawn (ascending)."""
        if drawn is None:
            return self.similarities[self.impostor]
        bounds = np.searchsorted(drawn, (self.first, self.first + self.similarities.size))
        pairs = drawn[slice(*bounds)] - self.first
        return self.similarities.ravel()[pairs[self.impostor.ravel()[pairs]]]


# From the first row of a block, the block and the gallery to which pairs count (block, gallery).
_Rule = Callable[[int, LabelledFeatures, LabelledFeatures], npt.NDArray[np.bool_]]


def _no_junk(
    _start: int, block: LabelledFeatures, gallery: LabelledFeatures
) -> npt.NDArray[np.bool_]:
    counted: npt.NDArray[np.bool_] = block.cameras[:, None] != gallery.cameras
    counted |= block.ids[:, None] != gallery.ids
    return counted


def _later_ones(
    start: int, block: LabelledFeatures, gallery: LabelledFeatures
) -> npt.NDArray[np.bool_]:
    later: npt.NDArray[np.bool_] = np.arange(start, start + len(block))[:, None] < np.arange(
        len(gallery)
    )
    return later


def _blocks(
    queries: LabelledFeatures, gallery: LabelledFeatures, counts: _Rule | None, block_bytes: int
) -> Iterator[_Block]:
    products = inner_products_with(unit_length(gallery.features))
    rows = max(1, block_bytes // (_BYTES_PER_SIMILARITY * len(gallery)))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        genuine = block.ids[:, None] == gallery.ids
        impostor = ~genuine
        if counts is not None:
            counted = counts(start, block, gallery)
            genuine &= counted
            impostor &= counted
        similarities = products(unit_length(block.features)).cpu().numpy()
        yield _Block(start * len(gallery), similarities, genuine, impostor)


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
