"""Re-ranking with k-reciprocal neighbours.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. It uses
the whole gallery and all other queries. A deployed system does not have these, so results after
re-ranking are reported beside the plain ones, never instead of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.metrics.distances import (
    cosine_distance,
    euclidean_distance,
    float32_arithmetic,
    refuse_different_widths,
    refuse_non_finite,
)
from reid_edge.metrics.results import Distance

FloatMatrix = npt.NDArray[np.float32]
FloatRow = npt.NDArray[np.float32]
IndexRow = npt.NDArray[np.int64]

_BLOCK_BYTES = 64 * 2**20
_DISTANCES = {"cosine": cosine_distance, "euclidean": euclidean_distance}


@dataclass(frozen=True)
class Sparse:
    """Weights of a few columns of one row.

    Attributes:
        columns: ascending.
        weights: above zero, one for each column.
    """

    columns: IndexRow
    weights: FloatRow


def rerank(
    queries: Tensor,
    gallery: Tensor,
    *,
    distance: Distance = "cosine",
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    progress: Progress | None = None,
) -> Tensor:
    """Return the re-ranked distances between queries and gallery.

    As in the authors' code, distances among all images are squared and divided by the largest of
    the row. An image is described by its k1-reciprocal neighbours, extended by neighbour sets that
    agree by two thirds, and averaged over its k2 nearest images. The result is the Jaccard distance
    of these descriptions and ``weight`` times the first distance. Of equally distant images the
    earlier one counts as nearer, queries before gallery.

    No matrix of all images against all is held: beside the result, memory is a few thousand
    numbers for each image.

    Args:
        queries: features, shape (queries, dimensions).
        gallery: features, shape (gallery, dimensions).
        distance: "cosine" or "euclidean", the first distance.
        k1: neighbours that must be mutual, from 1.
        k2: neighbours that a description is averaged over, from 1.
        weight: of the first distance, between 0 and 1 (lambda in the paper).
        progress: called with (images done, images in all).

    Returns:
        float32 on the CPU, shape (queries, gallery).

    Raises:
        DataError: an option is out of range, or features are not finite matrices of one width.
    """
    if distance not in _DISTANCES:
        raise DataError(f"unknown distance {distance!r}; choose one of: {', '.join(_DISTANCES)}")
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise DataError(
            f"re-ranking with k1 {k1}, k2 {k2}, weight {weight}: "
            "k1 and k2 are 1 or more, the weight is between 0 and 1"
        )
    for name, features in (("query", queries), ("gallery", gallery)):
        if features.ndim != 2 or features.numel() == 0:
            raise DataError(
                f"{name} features have shape {tuple(features.shape)}; expected a matrix"
            )
        refuse_non_finite(name, features.float())
    refuse_different_widths(queries, gallery)

    first = FirstDistances(torch.cat((queries, gallery)).detach().float(), distance)
    descriptions = describe(first, k1=k1, k2=k2, progress=progress)
    count = len(queries)
    inverted = invert(descriptions[count:], len(first))
    result = np.empty((count, len(gallery)), dtype=np.float32)
    for start, rows in first.blocks(count):
        for i, row in enumerate(rows, start):
            common = np.zeros(len(gallery), dtype=np.float32)
            for column, share in zip(descriptions[i].columns, descriptions[i].weights, strict=True):
                common[inverted[column].columns] += np.minimum(share, inverted[column].weights)
            # Both descriptions sum to one: the union is two less the intersection.
            jaccard = 1 - common / (2 - common)
            result[i] = (1 - weight) * jaccard + weight * row[count:]
    return torch.from_numpy(result)


class FirstDistances:
    """Distances among all images, squared, made when they are asked for.

    Args:
        features: shape (images, dimensions).
        distance: "cosine" or "euclidean".
        relative: divide each row by its largest distance.
    """

    def __init__(self, features: Tensor, distance: str, *, relative: bool = True) -> None:
        self._features = features
        self._distance = _DISTANCES[distance]
        self._relative = relative

    def __len__(self) -> int:
        return len(self._features)

    def blocks(self, count: int | None = None) -> Iterator[tuple[int, FloatMatrix]]:
        """Yield the first ``count`` rows, or all, in blocks: where a block starts, and its rows."""
        total = len(self) if count is None else count
        step = max(1, _BLOCK_BYTES // (16 * len(self)))
        for start in range(0, total, step):
            block = self._features[start : min(start + step, total)]
            with float32_arithmetic(block.device):
                squared = self._distance(block, self._features).square_()
            if self._relative:
                largest = squared.max(1, keepdim=True).values
                squared.div_(largest.clamp_min_(torch.finfo(torch.float32).tiny))
            yield start, squared.cpu().numpy()


def describe(
    first: FirstDistances, *, k1: int, k2: int, progress: Progress | None = None
) -> list[Sparse]:
    """Describe each image by its k1-reciprocal neighbours, averaged over its k2 nearest images.

    Args:
        first: distances among all images.
        k1: neighbours that must be mutual, from 1.
        k2: neighbours that a description is averaged over, from 1.
        progress: called with (images done, images in all).

    Returns:
        The weights of all images for each image; they sum to one.
    """
    nearest = np.concatenate([_nearest(rows, k1 + 1) for _, rows in first.blocks()])
    mutual = _reciprocal(nearest)
    # Half of k1 is rounded to the even number, as in the authors' code.
    half = [frozenset(row.tolist()) for row in _reciprocal(nearest[:, : round(k1 / 2) + 1])]
    descriptions: list[Sparse] = []
    for start, rows in first.blocks():
        for i, row in enumerate(rows, start):
            own = frozenset(mutual[i].tolist())
            agreeing = (half[j] for j in own if len(half[j] & own) > 2 / 3 * len(half[j]))
            columns = np.array(sorted(own.union(*agreeing)), dtype=np.int64)
            weights = np.exp(-row[columns])
            descriptions.append(Sparse(columns, weights / weights.sum()))
        if progress is not None:
            progress(len(descriptions), len(first))
    if k2 > 1:
        descriptions = [_mean([descriptions[j] for j in row[:k2]]) for row in nearest]
    return descriptions


def _nearest(rows: FloatMatrix, count: int) -> IndexRow:
    """Return the nearest columns of each row, the nearest first, ties by column."""
    count = min(count, rows.shape[1])
    last = np.partition(rows, count - 1, axis=1)[:, count - 1]
    nearest = np.empty((len(rows), count), dtype=np.int64)
    for i, row in enumerate(rows):
        near = np.flatnonzero(row <= last[i])
        nearest[i] = near[np.argsort(row[near], kind="stable")[:count]]
    return nearest


def _reciprocal(nearest: IndexRow) -> list[IndexRow]:
    """Return those of each image's nearest that have the image among theirs."""
    return [row[(nearest[row] == i).any(1)] for i, row in enumerate(nearest)]


def _mean(rows: list[Sparse]) -> Sparse:
    columns, places = np.unique(np.concatenate([row.columns for row in rows]), return_inverse=True)
    weights = np.bincount(places, weights=np.concatenate([row.weights for row in rows]))
    return Sparse(columns, (weights / len(rows)).astype(np.float32))


def invert(rows: list[Sparse], columns: int) -> list[Sparse]:
    """Return for each column the rows that have it, with their weights."""
    all_columns = np.concatenate([row.columns for row in rows])
    all_rows = np.repeat(np.arange(len(rows)), [len(row.columns) for row in rows])
    weights = np.concatenate([row.weights for row in rows])
    order = np.argsort(all_columns, kind="stable")
    bounds = np.searchsorted(all_columns[order], np.arange(columns + 1))
    return [Sparse(all_rows[order[a:b]], weights[order[a:b]]) for a, b in pairwise(bounds)]
