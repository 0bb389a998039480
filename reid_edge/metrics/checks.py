"""What features and their labels must be before anything is measured with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError

IntegerArray = npt.NDArray[np.int64]

_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class LabelledFeatures:
    """Features ready for measuring.

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
    """Check one set of features and bring it into the form the metrics work with.

    Args:
        name: what to call the set in messages, "query" or "gallery".
        features: real numbers of any type, shape (images, dimensions).
        ids: integers, shape (images,).
        cameras: integers, shape (images,); None stands for one camera, zero.
        device: where to compute.

    Raises:
        DataError: if the set is empty, the shapes do not belong together, labels are not
            integers, or features are not finite.
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
    """Check two sets and bring them to the device of the queries, as `labelled_features` does.

    Raises:
        DataError: as that, or if their features have different numbers of dimensions.
    """
    device = query_features.device
    queries = labelled_features("query", query_features, query_ids, query_cameras, device)
    gallery = labelled_features("gallery", gallery_features, gallery_ids, gallery_cameras, device)
    refuse_different_widths(queries.features, gallery.features)
    return queries, gallery


def refuse_non_finite(name: str, features: Tensor) -> None:
    """Raise DataError if any row of features holds a value that float32 has no finite number for.

    Args:
        name: what to call the set in the message.
        features: float32, shape (images, dimensions).
    """
    # In slices: the test's temporaries would be as large as the features themselves.
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
    """Give labels as int64 on the CPU.

    Args:
        name: what to call the labels in messages.
        labels: integers, shape (count,).
        count: how many there must be.

    Raises:
        DataError: if the shape or the type is another.
    """
    if labels.shape != (count,):
        raise DataError(f"{name} have shape {tuple(labels.shape)}; expected ({count},)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"{name} have type {labels.dtype}; expected integers")
    array: IntegerArray = labels.detach().cpu().numpy().astype(np.int64)
    return array
