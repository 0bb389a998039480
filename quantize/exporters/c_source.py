"""A compiled int8 engine: a folder of C, and the shared library that is built of it here."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantize.c_engine.lowering import lower
from quantize.c_engine.qdq_reader import read_network
from quantize.c_engine.source import TEST_IMAGES, SampleData, is_engine_folder, write_folder
from quantize.c_engine.toolchain import build, find_compiler
from reid_edge.core.backends import load_model_file
from reid_edge.core.errors import NotBuiltError, QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import ModelMetadata

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

logger = logging.getLogger(__name__)


def write_engine(int8_file: Path, images: Tensor, path: Path) -> Path:
    """Write the C engine of an int8 ONNX file, and build it where there is a compiler.

    Args:
        int8_file: as ``quantize_onnx`` writes it.
        images: (N, 3, H, W), normalised as the file expects it; the test program gets five.
        path: of the shared library; the folder with the source is beside it, ``<stem>_c``.

    Returns:
        The folder.

    Raises:
        NotBuiltError: there is no C compiler; the folder is written.
        QuantizeError: the engine does not support a node, or the source does not build.
    """
    network = read_network(int8_file)
    program = lower(network)
    metadata = ModelMetadata.from_strings(network.metadata, int8_file)
    folder = path.with_name(f"{path.stem}_c")
    bytes_of_images, prepared = _test_images(images, metadata)
    expected = load_model_file(int8_file).embed(prepared)
    write_folder(program, metadata, SampleData(bytes_of_images, expected), folder)
    logger.info(
        "export: %s: %d layers, %.2f MB of weights, %.2f MB of memory",
        folder.name,
        len(program.layers),
        len(program.weights) / 1e6,
        program.arena / 1e6,
    )
    compiler = find_compiler()
    if compiler is None:
        raise NotBuiltError(
            f"{folder} is written, and not built: there is no C compiler here (cc, gcc or clang)"
        )
    library = build(folder, compiler)
    with written_whole(path, QuantizeError) as file:
        file.write(library.read_bytes())
    library.unlink()
    return folder


def _test_images(
    images: Tensor, metadata: ModelMetadata
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return five images as bytes (5, H, W, 3) in RGB, and as floats as a model takes them."""
    count = images.shape[0]
    chosen = images[np.arange(TEST_IMAGES) * count // TEST_IMAGES % count].numpy()
    mean, std = (
        np.asarray(values, np.float32).reshape(3, 1, 1) for values in (metadata.mean, metadata.std)
    )
    pixels = np.clip(np.round((chosen * std + mean) * 255), 0, 255).astype(np.uint8)
    prepared = (pixels.astype(np.float32) * np.float32(1 / 255) - mean) / std
    ordered = pixels[:, ::-1] if metadata.colour_order == "BGR" else pixels
    return np.ascontiguousarray(ordered.transpose(0, 2, 3, 1)), prepared.astype(np.float32)


def write_file(source: ExportSource, path: Path) -> None:
    """Write the C engine of an export out of its int8 ONNX file."""
    import torch

    batches = source.draw_calibration().batches
    if not batches:
        raise QuantizeError("no calibration images: the test program needs some")
    folder = path.with_name(f"{path.stem}_c")
    if folder.is_symlink() or folder.exists():
        if not is_engine_folder(folder):
            raise QuantizeError(
                f"{folder}: is not a folder that this export wrote, or has other files in it; move "
                "it away, or choose another folder"
            )
        shutil.rmtree(folder)
    write_engine(
        source.file("onnx_int8"), torch.cat([batch[:TEST_IMAGES] for batch in batches]), path
    )


C = Exporter(
    "c",
    "a compiled int8 engine: C source without dependencies, made of the int8 ONNX file",
    "model.so",
    write_file,
    made_of=("onnx_int8",),
    int8=True,
    meant_for="Linux on x86-64 and ARM (C compiler)",
    needs_model=False,
    folder_suffix="_c",
    owns_folder=is_engine_folder,
)
