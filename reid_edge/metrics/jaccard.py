"""Jaccard distances of k-reciprocal neighbours, as clustering uses them.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017; in the
form of Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object
Re-ID", NeurIPS 2020: the first distances are those of unit vectors, squared and not scaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.distances import refuse_non_finite, unit_length
from reid_edge.metrics.reranking import FirstDistances, describe, invert

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def jaccard_graph(features: Tensor, *, largest: float, k1: int = 30, k2: int = 6) -> csr_array:
    """Return the Jaccard distances among images that are at most ``largest``.

    Two images without a common neighbour have distance 1. No matrix of all images against all is
    held, so memory grows with the number of close pairs.

    Args:
        features: shape (images, dimensions); their length does not count.
        largest: distance up to which pairs are kept, above 0 and below 1.
        k1: neighbours that must be mutual, from 1.
        k2: neighbours that a description is averaged over, from 1.

    Returns:
        Sparse float32, shape (images, images), symmetric; entries that are missing are farther
        apart. Zeros are stored.

    Raises:
        DataError: features are no finite matrix, or an option is out of range.
    """
    from scipy.sparse import csr_array

    if features.ndim != 2 or features.numel() == 0:
        raise DataError(f"features have shape {tuple(features.shape)}; expected a matrix")
    if k1 < 1 or k2 < 1 or not 0 < largest < 1:
        raise DataError(
            f"Jaccard distances with k1 {k1}, k2 {k2}, up to {largest}: k1 and k2 are 1 or more, "
            "the largest distance is between 0 and 1"
        )
    refuse_non_finite("image", features.float())
    unit = unit_length(features.detach().float())
    descriptions = describe(FirstDistances(unit, "euclidean", relative=False), k1=k1, k2=k2)
    count = len(descriptions)
    inverted = invert(descriptions, count)
    distances, columns, bounds = [], [], [0]
    common = np.zeros(count)
    for description in descriptions:
        common[:] = 0
        for column, share in zip(description.columns, description.weights, strict=True):
            common[inverted[column].columns] += np.minimum(share, inverted[column].weights)
        # Both descriptions sum to one: the union is two less the intersection.
        row = np.maximum(1 - common / (2 - common), 0)
        near = np.flatnonzero(row <= largest)
        distances.append(row[near])
        columns.append(near)
        bounds.append(bounds[-1] + len(near))
    # (i, j) and (j, i) add the same numbers in the same order, so the matrix is symmetric.
    return csr_array(
        (np.concatenate(distances), np.concatenate(columns), np.array(bounds)), (count, count)
    )
