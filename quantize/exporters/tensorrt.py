"""int8 ONNX for TensorRT: QDQ pairs of signed int8 with zero points of 0.

TensorRT knows symmetric quantization alone: activations int8 per tensor, weights int8 per channel,
biases in float. ONNX Runtime runs such a file too, and rounds as it says; that is what it is
checked with. TensorRT itself is not run here.
"""

import logging
from pathlib import Path

from quantize.exporters.onnx_int8 import OnnxInt8Settings, int8_convolutions, quantize_onnx
from reid_edge.core.exporter import Exporter, ExportSource

logger = logging.getLogger(__name__)


def write_file(source: ExportSource, path: Path) -> None:
    """Write the file for TensorRT out of the float ONNX file."""
    settings = source.settings or OnnxInt8Settings()
    calibration = source.draw_calibration()
    quantize_onnx(
        source.file("onnx"),
        calibration.batches,
        path,
        method=settings.calibration,
        percentile=settings.percentile,
        symmetric=True,
        metadata=source.int8_metadata(calibration).to_strings(),
        batch=source.batch or 1,
    )
    logger.info("export: %s: %d of %d convolutions are int8", path.name, *int8_convolutions(path))


TENSORRT_INT8 = Exporter(
    "tensorrt_int8",
    "int8 ONNX for TensorRT: symmetric QDQ, checked with ONNX Runtime",
    "tensorrt_int8.onnx",
    write_file,
    made_of=("onnx",),
    int8=True,
    meant_for="NVIDIA (TensorRT)",
    needs_model=False,
    batching="fixed",
    settings=OnnxInt8Settings,
)
