"""What exported files take: normalised images, or pixels that they normalise themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reid_edge.core.exporter import PixelInput
from reid_edge.core.model_file import FLOAT_INPUT, ModelMetadata

if TYPE_CHECKING:
    from reid_edge.inference.embedder import EmbeddingSpace


@dataclass(frozen=True)
class FileInput:
    """What files take.

    Attributes:
        pixels: how they normalise pixels; None: they take normalised images.
        metadata: of a file with this input.
        space: how images are prepared for such a file.
    """

    pixels: PixelInput | None
    metadata: ModelMetadata
    space: EmbeddingSpace


def file_input(form: str, metadata: ModelMetadata, space: EmbeddingSpace) -> FileInput:
    """Return what files of a model take.

    Args:
        form: one of ``INPUT_FORMS``.
        metadata: of a file that takes normalised images.
        space: likewise.
    """
    if form == FLOAT_INPUT:
        return FileInput(None, metadata, space)
    order = "BGR" if form == "uint8-bgr" else "RGB"
    reverse = order != metadata.colour_order
    mean, std = (values[::-1] if reverse else values for values in (metadata.mean, metadata.std))
    return FileInput(
        PixelInput(mean, std, reverse),
        replace(metadata, colour_order=order, mean=mean, std=std, input_form=form),
        replace(space, colour_order=order, mean=mean, std=std, input_form=form),
    )
