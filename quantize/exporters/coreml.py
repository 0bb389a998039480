"""Core ML packages, made of the PyTorch model by coremltools; they run on Apple's systems alone.

A package is a folder, so that the file is its ZIP archive. coremltools converts on Linux too, and
runs packages on macOS alone, so that embeddings are not compared here.
"""

from __future__ import annotations

import io
import logging
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.quiet import hints_silenced, torch_notices_silenced
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT
from reid_edge.core.packages import import_package

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_coreml(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a float model as an ML program for iOS 16 and macOS 13 or newer.

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        example: a batch (N, 3, H, W); the program takes batches of N.
        path: where to write the archive; its folder exists. An existing file is replaced.
        metadata: written into the package as user-defined metadata.

    Raises:
        QuantizeError: coremltools is not installed or cannot convert the model, or the archive
            cannot be written.
    """
    import torch

    from quantize.fold import UnitLength, folded_copy

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with hints_silenced():
        tools = import_package(
            "coremltools", extra="coreml", needed_by="Core ML packages", error=QuantizeError
        )
    network = UnitLength(folded_copy(model, example)).eval()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{path.name.partition('.')[0]}.mlpackage"
        try:
            with hints_silenced(), torch_notices_silenced(), torch.inference_mode():
                program = tools.convert(
                    torch.jit.trace(network, example),  # type: ignore[no-untyped-call]
                    inputs=[tools.TensorType(name=ONNX_INPUT, shape=tuple(example.shape))],
                    outputs=[tools.TensorType(name=ONNX_OUTPUT)],
                    convert_to="mlprogram",
                    compute_precision=tools.precision.FLOAT32,
                    minimum_deployment_target=tools.target.iOS16,
                )
                for key, value in sorted(metadata.items()):
                    program.user_defined_metadata[key] = value
                program.save(str(package))
        except Exception as error:  # what the converter raises has no common base
            reason = " ".join(str(error).partition("\n")[0].split())[:300]
            raise QuantizeError(f"coremltools cannot convert the model: {reason}") from error
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(each for each in package.rglob("*") if each.is_file()):
                archive.write(file, file.relative_to(package.parent))
    with written_whole(path, QuantizeError) as target:
        target.write(content.getbuffer())


def write_file(source: ExportSource, path: Path) -> None:
    """Write the package of an export."""
    example = source.example.expand(source.batch or 1, -1, -1, -1)
    save_coreml(source.module, example, path, source.metadata.to_strings())


COREML = Exporter(
    "coreml",
    "Core ML program, a zipped .mlpackage",
    "float.mlpackage.zip",
    write_file,
    timed=False,
    meant_for="iPhone, iPad, Mac (Core ML)",
    packages=("coremltools",),
    extra="coreml",
    batching="fixed",
    own_process=True,
    unchecked="Core ML runs on Apple's systems alone",
)
