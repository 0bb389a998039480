"""Embeddings of the persons in a video frame, for a tracker.

An ONNX file needs nothing but NumPy, Pillow and ONNX Runtime; PyTorch is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_edge.core.errors import DataError, ModelError
from reid_edge.data.decoding import resize_image
from reid_edge.inference import embedder as files
from reid_edge.inference.embedder import (
    check_finite,
    embed_batch,
    load_embedder,
    prepare_pixels,
    unit_vectors,
)

if TYPE_CHECKING:
    from reid_edge.core.model_file import Embeddings, Images

Frame: TypeAlias = NDArray[np.uint8]


@runtime_checkable
class HasBoxes(Protocol):
    """What has boxes, such as ``supervision.Detections`` and the boxes of Ultralytics."""

    @property
    def xyxy(self) -> object:
        """The boxes (N, 4): left, top, right, bottom."""


Boxes: TypeAlias = NDArray[np.floating] | NDArray[np.integer] | Sequence[Sequence[float]] | HasBoxes


class Embedder:
    """A model file that embeds the persons in a frame.

    Call it with a frame and boxes. A crop is prepared as the image file of that crop is by
    `embed_files`, so that the embeddings are the same and thresholds stay valid.

    Args:
        model: a model file, or what `load_embedder` returns, which has further options.
        threads: that the runtime of an exported file uses for a call; by default as many as PyTorch
            uses where it is loaded, or all cores.
        batch_size: most crops that go through the model together; a file with a fixed batch is
            given that.

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        ModelError: a package is missing, or the model cannot be run here.
    """

    def __init__(
        self,
        model: str | Path | files.ImageEmbedder,
        *,
        threads: int | None = None,
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1:
            raise ModelError(f"batch_size: {batch_size}; expected 1 or more")
        if isinstance(model, str | Path):
            model = load_embedder(Path(model), threads=threads)
        elif threads is not None:
            raise ModelError("threads: give them to load_embedder, which has loaded the model")
        self.model = model
        self.batch_size = batch_size
        self._dimensions: int | None = None

    @property
    def dimensions(self) -> int:
        """Size of an embedding, D. The model is run once, on a black image, to find it."""
        if self._dimensions is None:
            black = np.zeros((3, *self.model.space.input_size), dtype=np.uint8)
            image = prepare_pixels(black, self.model.space)
            self._dimensions = embed_batch(self.model, image[None]).shape[1]
        return self._dimensions

    def __call__(self, frame: Frame, boxes: Boxes) -> Embeddings:
        """Embed the persons in a frame.

        Args:
            frame: uint8 BGR (H, W, 3), as OpenCV reads it.
            boxes: (N, 4), left, top, right and bottom in pixels, or what has them as ``xyxy``; N
                may be 0. They are rounded, and cut off at the frame's border.

        Returns:
            float32 (N, D), each of length 1. It is a row of zeros, which is similar to nothing, for
            a box with nothing of the frame in it, and for one that is not finite.

        Raises:
            DataError: the frame or the boxes are of another form.
            ModelError: the model fails, or an embedding is not finite.
        """
        crops = crop_boxes(frame, boxes)
        seen = [(place, crop) for place, crop in enumerate(crops) if crop is not None]
        if not seen:
            return np.zeros((len(crops), self.dimensions), dtype=np.float32)
        parts = []
        for start in range(0, len(seen), self.batch_size):
            batch = [self._prepare(crop) for _, crop in seen[start : start + self.batch_size]]
            parts.append(embed_batch(self.model, np.stack(batch)))
        found = unit_vectors(check_finite(np.concatenate(parts), self.model.path))
        self._dimensions = found.shape[1]
        features = np.zeros((len(crops), found.shape[1]), dtype=np.float32)
        features[[place for place, _ in seen]] = found
        return features

    def _prepare(self, crop: Frame) -> Images:
        image = Image.fromarray(np.ascontiguousarray(crop[..., ::-1]))
        return prepare_pixels(resize_image(image, *self.model.space.input_size), self.model.space)


def crop_boxes(frame: Frame, boxes: Boxes) -> list[Frame | None]:
    """Cut boxes out of a frame.

    Args:
        frame: uint8 (H, W, 3).
        boxes: (N, 4), or what has them as ``xyxy``; see `Embedder`.

    Returns:
        For each box its part of the frame, a view (h, w, 3) of at least one pixel, or None where
        the box has no pixel of the frame or is not finite.

    Raises:
        DataError: the frame or the boxes are of another form.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        found = getattr(frame, "shape", None) or type(frame).__name__
        raise DataError(f"a frame of {found}: expected an array (height, width, 3)")
    if frame.dtype != np.uint8:
        raise DataError(f"a frame of {frame.dtype}: expected uint8, from 0 to 255")
    try:
        corners = np.asarray(boxes.xyxy if isinstance(boxes, HasBoxes) else boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes that are no numbers ({error}); expected (N, 4)") from error
    if corners.size == 0:
        return []
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise DataError(f"boxes of shape {corners.shape}: expected (N, 4), left top right bottom")
    height, width = frame.shape[:2]
    finite = np.isfinite(corners).all(axis=1, keepdims=True)
    limits = np.array([width, height, width, height])
    pixels = np.clip(np.rint(np.where(finite, corners, 0)), 0, limits).astype(int)
    return [
        frame[top:bottom, left:right] if right > left and bottom > top else None
        for left, top, right, bottom in pixels
    ]
