"""Cosine and Euclidean distances between blocks of features."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.inner_products import BlockFunction, inner_products_with

Distance = Literal["cosine", "euclidean"]
DISTANCES: tuple[str, ...] = get_args(Distance)

_ROWS_AT_A_TIME = 8192


def unit_length(features: Tensor) -> Tensor:
    """Scale every row to length one; a row of zeros stays zero.

    Rows are first divided by their largest entry, so that squares of very large or very small
    features neither overflow nor vanish.

    Args:
        features: float, shape (images, dimensions).

    Returns:
        A new tensor of the same shape.
    """
    scaled = features / _nonzero(torch.linalg.vector_norm(features, float("inf"), 1, keepdim=True))
    return scaled.div_(_nonzero(torch.linalg.vector_norm(scaled, 2, 1, keepdim=True)))


def cosine_distance(queries: Tensor, gallery: Tensor) -> Tensor:
    """One minus the cosine similarity: 0 for the same direction, 2 for the opposite.

    Args:
        queries: float32, shape (queries, dimensions).
        gallery: float32, shape (gallery, dimensions).

    Returns:
        Shape (queries, gallery). A row of zeros has distance 1 to everything.
    """
    return _cosine_distances_to(gallery)(queries)


def euclidean_distance(queries: Tensor, gallery: Tensor) -> Tensor:
    """The Euclidean distance, by way of inner products.

    Args:
        queries: float32, shape (queries, dimensions).
        gallery: float32, shape (gallery, dimensions).

    Returns:
        Shape (queries, gallery), in the features' unit.
    """
    squared = _squared_lengths(queries)[:, None] + _euclidean_order_to(gallery)(queries)
    return squared.clamp_min_(0.0).sqrt_()


def ranking_values(queries: Tensor, gallery: Tensor, distance: Distance) -> BlockFunction:
    """Prepare a gallery and return the function that gives the values a block is ranked by.

    For ``"cosine"`` these are the cosine distances. For ``"euclidean"`` they are the squared
    distances less the query's own squared length: the same number is missing all along a row,
    and without it the order is the same and a little more exact.

    Args:
        queries: every query, float32, shape (queries, dimensions); only their size is looked at.
        gallery: float32, shape (gallery, dimensions).
        distance: one of `DISTANCES`.

    Returns:
        A function from a block of queries, shape (block, dimensions), to a new float32 tensor of
        shape (block, gallery).

    Raises:
        DataError: if the distance is unknown, or squared lengths overflow float32.
    """
    if distance == "cosine":
        return _cosine_distances_to(gallery)
    if distance == "euclidean":
        _refuse_overflow(queries, gallery)
        return _euclidean_order_to(gallery)
    raise DataError(f"unknown distance {distance!r}; choose one of: {', '.join(DISTANCES)}")


def _cosine_distances_to(gallery: Tensor) -> BlockFunction:
    ones = torch.ones(len(gallery), dtype=gallery.dtype, device=gallery.device)
    products = inner_products_with(unit_length(gallery), ones)
    return lambda queries: products(unit_length(queries).neg_())


def _euclidean_order_to(gallery: Tensor) -> BlockFunction:
    products = inner_products_with(gallery, _squared_lengths(gallery))
    return lambda queries: products(queries * -2.0)


def _squared_lengths(features: Tensor) -> Tensor:
    # Not the square of a length: its root and square are rounded, and small integers would no
    # longer tie. In slices: the squares would be as large as the features themselves.
    slices = torch.split(features, _ROWS_AT_A_TIME)
    return torch.cat([rows.square().sum(1) for rows in slices])


def _refuse_overflow(queries: Tensor, gallery: Tensor) -> None:
    reach = sum(float(_squared_lengths(each).max()) ** 0.5 for each in (queries, gallery))
    if reach**2 > torch.finfo(torch.float32).max:
        raise DataError("features are too long: squared Euclidean distances overflow float32")


def _nonzero(lengths: Tensor) -> Tensor:
    return torch.where(lengths > 0, lengths, torch.ones_like(lengths))
