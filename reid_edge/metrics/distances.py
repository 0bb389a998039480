"""Features with their labels, and cosine and Euclidean distances between blocks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.results import DISTANCES, Distance

IntegerArray = npt.NDArray[np.int64]
# From a block of queries (block, dimensions) to their values for a gallery (block, gallery).
BlockFunction = Callable[[Tensor], Tensor]

# Temporaries of a whole set would be as large as its features.
_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class LabelledFeatures:
    """Features that were checked, with their labels.

    Attributes:
        features: float32, shape (images, dimensions), on the computing device.
        ids: identity of each image, shape (images,).
        cameras: camera of each image, shape (images,).
    """

    features: Tensor
    ids: IntegerArray
    cameras: IntegerArray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> LabelledFeatures:
        return LabelledFeatures(self.features[part], self.ids[part], self.cameras[part])


def labelled_features(
    name: str, features: Tensor, ids: Tensor, cameras: Tensor | None, device: torch.device
) -> LabelledFeatures:
    """Check one set of features and convert it to the types that the metrics work with.

    Args:
        name: of the set in messages, "query" or "gallery".
        features: real numbers of any type, shape (images, dimensions).
        ids: integers, shape (images,).
        cameras: integers, shape (images,); None means camera zero for all.
        device: where to compute.

    Raises:
        DataError: the set is empty, the shapes do not belong together, labels are not integers,
            or features are not finite.
    """
    if features.ndim != 2:
        raise DataError(
            f"{name} features have shape {tuple(features.shape)}; expected (images, dimensions)"
        )
    if features.numel() == 0:
        raise DataError(f"the {name} set is empty: its features have shape {tuple(features.shape)}")
    converted = features.detach().to(device=device, dtype=torch.float32)
    refuse_non_finite(name, converted)
    return LabelledFeatures(
        converted,
        integer_labels(f"{name} ids", ids, len(features)),
        np.zeros(len(features), dtype=np.int64)
        if cameras is None
        else integer_labels(f"{name} cameras", cameras, len(features)),
    )


def query_and_gallery(
    query_features: Tensor,
    query_ids: Tensor,
    query_cameras: Tensor | None,
    gallery_features: Tensor,
    gallery_ids: Tensor,
    gallery_cameras: Tensor | None,
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Check two sets as `labelled_features` does, and move both to the device of the queries.

    Raises:
        DataError: see `labelled_features`; or the numbers of dimensions differ.
    """
    device = query_features.device
    queries = labelled_features("query", query_features, query_ids, query_cameras, device)
    gallery = labelled_features("gallery", gallery_features, gallery_ids, gallery_cameras, device)
    refuse_different_widths(queries.features, gallery.features)
    return queries, gallery


def refuse_non_finite(name: str, features: Tensor) -> None:
    """Raise DataError if a row of features (images, dimensions) has a value that is not finite."""
    # A sum takes a tenth of the time; it is not finite if a value is not, and seldom otherwise.
    if all(bool(rows.sum().isfinite()) for rows in torch.split(features, _ROWS_AT_A_TIME)):
        return
    finite = torch.cat(
        [torch.isfinite(rows).all(1) for rows in torch.split(features, _ROWS_AT_A_TIME)]
    )
    broken = torch.nonzero(~finite).flatten()
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(features)} {name} features are not finite, "
            f"the first at index {int(broken[0])}"
        )


def refuse_different_widths(queries: Tensor, gallery: Tensor) -> None:
    """Raise DataError unless both sets of features have the same number of dimensions."""
    if queries.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query features have {queries.shape[1]} dimensions, "
            f"gallery features have {gallery.shape[1]}"
        )


def integer_labels(name: str, labels: Tensor, count: int) -> IntegerArray:
    """Return labels as int64 on the CPU.

    Args:
        name: of the labels in messages.
        labels: integers, shape (count,).
        count: expected number of labels.

    Raises:
        DataError: the shape or the type is another.
    """
    if labels.shape != (count,):
        raise DataError(f"{name} have shape {tuple(labels.shape)}; expected ({count},)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"{name} have type {labels.dtype}; expected integers")
    array: IntegerArray = labels.detach().cpu().numpy().astype(np.int64)
    return array


def unit_length(features: Tensor) -> Tensor:
    """Scale every row to length one; a row of zeros stays zero.

    Rows are first divided by their largest entry, so that squares of very large or very small
    features neither overflow nor vanish.

    Args:
        features: float, shape (images, dimensions).

    Returns:
        A new tensor of the same shape.
    """

    def nonzero(lengths: Tensor) -> Tensor:
        return torch.where(lengths > 0, lengths, torch.ones_like(lengths))

    scaled = features / nonzero(torch.linalg.vector_norm(features, float("inf"), 1, keepdim=True))
    return scaled.div_(nonzero(torch.linalg.vector_norm(scaled, 2, 1, keepdim=True)))


def cosine_distance(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return one minus the cosine similarity: 0 for the same direction, 2 for the opposite.

    Args:
        queries: float32, shape (queries, dimensions).
        gallery: float32, shape (gallery, dimensions).

    Returns:
        Shape (queries, gallery). A row of zeros has distance 1 to everything.
    """
    return _cosine_distances_to(gallery)(queries)


def euclidean_distance(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return the Euclidean distance, computed from inner products.

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
    distances without the query's own squared length: this is the same number for the whole row,
    and without it the order is the same and a little more exact.

    Args:
        queries: every query, float32, shape (queries, dimensions); only their size is looked at.
        gallery: float32, shape (gallery, dimensions).
        distance: one of `DISTANCES`.

    Returns:
        A function from a block of queries, shape (block, dimensions), to a new float32 tensor of
        shape (block, gallery).

    Raises:
        DataError: the distance is unknown, or squared lengths overflow float32.
    """
    if distance == "cosine":
        return _cosine_distances_to(gallery)
    if distance == "euclidean":
        reach = sum(float(_squared_lengths(each).max()) ** 0.5 for each in (queries, gallery))
        if reach**2 > torch.finfo(torch.float32).max:
            raise DataError("features are too long: squared Euclidean distances overflow float32")
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
    # longer tie.
    slices = torch.split(features, _ROWS_AT_A_TIME)
    return torch.cat([rows.square().sum(1) for rows in slices])


@contextmanager
def float32_arithmetic(device: torch.device) -> Iterator[None]:
    """Switch off autocast, TF32 and bfloat16 matrix products, which make distances tie or swap."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def inner_products_with(gallery: Tensor, offset: Tensor | None = None) -> BlockFunction:
    """Prepare a gallery and return the function that multiplies query blocks with it.

    Args:
        gallery: float32, shape (gallery, dimensions).
        offset: float32, shape (gallery,), added to every row of a block.

    Returns:
        A function from queries, float32 of shape (block, dimensions), to a new contiguous tensor
        ``offset + queries @ gallery.T`` of shape (block, gallery).
    """
    # oneDNN's product is up to 2.4 times as fast as MKL's on AMD processors, and it sums every
    # element in the same order at every place of the block: equal images get equal distances,
    # which the rule for ties needs. MKL's differs in the last bit at the edges.
    if gallery.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        weight = gallery.to_mkldnn()
        bias = None if offset is None else offset.to_mkldnn()

        def onednn_product(queries: Tensor) -> Tensor:
            product: Tensor = functional.linear(queries.contiguous().to_mkldnn(), weight, bias)
            return product.to_dense()

        return onednn_product
    transposed = gallery.T
    if offset is None:
        return lambda queries: queries @ transposed
    return lambda queries: torch.addmm(offset, queries, transposed)
