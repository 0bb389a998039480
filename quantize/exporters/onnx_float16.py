"""ONNX files in half precision, made of float ones: for GPUs and NPUs, and half the size.

Images and embeddings stay float32, and the division by the length is computed in float32: in half
precision, its bound of 1e-12 is zero, and a sum of squares may overflow.
"""

from pathlib import Path

from quantize.exporters.onnx_float import onnx_session, read_onnx
from quantize.exporters.onnx_tail import cut_unit_length, divide_by_length
from quantize.quiet import hints_silenced
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole


def save_float16(float_file: Path, path: Path) -> None:
    """Write a float ONNX file in half precision, with the same names, metadata and batch.

    Args:
        float_file: its weights are float32.
        path: where to write; its folder exists. An existing file is replaced in one step.

    Raises:
        QuantizeError: the file cannot be read or converted, or ONNX Runtime cannot run it.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = read_onnx(float_file)
    is_unit_length = cut_unit_length(model)
    try:
        # A weight below the smallest number in half precision is rounded, with a warning each.
        with hints_silenced():
            half = convert_float_to_float16(model, keep_io_types=True)
        OnnxModel.graph_topological_sort(half.graph)
    except Exception as error:  # what the converter raises has no common base
        reason = " ".join(str(error).split())[:300]
        raise QuantizeError(
            f"{float_file}: cannot be written in half precision: {reason}"
        ) from error
    if is_unit_length:
        divide_by_length(half)
    content = half.SerializeToString(deterministic=True)
    onnx_session(content)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


def write_file(source: ExportSource, path: Path) -> None:
    """Write the file in half precision out of the float ONNX file."""
    save_float16(source.file("onnx"), path)


ONNX_FLOAT16 = Exporter(
    "onnx_float16",
    "ONNX in half precision, float32 in and out",
    "float16.onnx",
    write_file,
    made_of=("onnx",),
    meant_for="GPUs, NPUs (ONNX Runtime, TensorRT)",
    needs_model=False,
    batching="both",
)
