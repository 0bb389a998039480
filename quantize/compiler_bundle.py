"""What a device maker's compiler takes, as one ZIP archive: a float ONNX file, images, a script.

``model.onnx`` has a fixed batch and no division by the length at its end. The compiler chooses the
int8 ranges on the images, which are 8-bit and not normalised; the script tells it mean and std.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantize.exporters.onnx_edits import set_batch
from quantize.exporters.onnx_float import read_onnx, with_metadata
from quantize.exporters.onnx_tail import cut_unit_length
from reid_edge.core.errors import QuantizeError
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import BUNDLED_MODEL, ONNX_OUTPUT, ModelMetadata

if TYPE_CHECKING:
    from torch import Tensor

# The oldest time that a ZIP archive can hold, so that the same model gives the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def static_model(onnx_file: Path, batch: int, metadata: Mapping[str, str]) -> bytes:
    """Return a float ONNX file with a fixed batch, whose embeddings have any length.

    Raises:
        QuantizeError: the file cannot be read.
    """
    model = read_onnx(onnx_file)
    set_batch(model, batch)
    cut_unit_length(model)
    for node in model.graph.node:
        if ONNX_OUTPUT in node.output and not node.name:
            node.name = ONNX_OUTPUT  # scripts call the last node by its name
    return with_metadata(model.SerializeToString(), metadata)


def calibration_images(batches: Sequence[Tensor], metadata: ModelMetadata) -> NDArray[np.uint8]:
    """Return normalised images (N, 3, H, W) as they were before: (N, H, W, 3), 0 to 255.

    Raises:
        QuantizeError: there are none.
    """
    if not batches:
        raise QuantizeError("no calibration images: the compiler cannot choose ranges without them")
    images = np.concatenate([batch.numpy() for batch in batches]).transpose(0, 2, 3, 1)
    scaled = (images * metadata.std + metadata.mean) * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def normalisation(metadata: ModelMetadata) -> tuple[list[float], list[float]]:
    """Return mean and std of each colour for images of 0 to 255."""
    mean, std = (
        [round(255 * value, 4) for value in each] for each in (metadata.mean, metadata.std)
    )
    return mean, std


def as_npy(images: NDArray[np.uint8]) -> bytes:
    """Return an array as the content of a ``.npy`` file."""
    content = io.BytesIO()
    np.save(content, images)
    return content.getvalue()


def as_png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W, 3), RGB, as the content of a PNG file."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def write_bundle(path: Path, model: bytes, files: Mapping[str, bytes]) -> None:
    """Write the archive, without compression and times.

    Raises:
        QuantizeError: it cannot be written.
    """
    with written_whole(path, QuantizeError) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in {BUNDLED_MODEL: model, **files}.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content)
