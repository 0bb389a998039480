"""OpenVINO files, made of ONNX files: ``model.xml``, the graph, and beside it ``model.bin``.

A QDQ file, in int8, stays in int8: OpenVINO reads its scales as they are.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from quantize.exporters.onnx_float import read_onnx_metadata
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import OPENVINO_METADATA, OPENVINO_PRECISION, OPENVINO_WEIGHTS_HASH
from reid_edge.core.packages import import_package


def save_openvino(onnx_file: Path, path: Path, *, half: bool = False) -> None:
    """Write an ONNX file as OpenVINO's two, with the same names, metadata and dynamic batch.

    Existing files are replaced, the weights first. Until the graph is replaced too, the old graph
    does not fit the new weights and is refused.

    Args:
        onnx_file: float, or int8 as ``quantize_onnx`` writes it.
        path: where to write the graph, ``.xml``; the weights go beside it, ``.bin``.
        half: store weights in half precision, and note that the file is to be computed in bfloat16.

    Raises:
        QuantizeError: OpenVINO is not installed or cannot convert the file, or nothing can be
            written.
    """
    openvino = import_package("openvino", extra="openvino", needed_by=path, error=QuantizeError)
    metadata = read_onnx_metadata(onnx_file)
    try:
        model = openvino.Core().read_model(onnx_file)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise QuantizeError(f"{onnx_file}: OpenVINO cannot convert it: {reason}") from error
    # Default names depend on all models read in this process; names by position do not.
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{place}")
    _, weights = _serialized(openvino, model, half=half)
    noted = {**metadata, OPENVINO_WEIGHTS_HASH: hashlib.sha256(weights).hexdigest()}
    if half:
        noted[OPENVINO_PRECISION] = "bf16"
    for key, value in sorted(noted.items()):
        model.set_rt_info(value, [OPENVINO_METADATA, key])
    graph, _ = _serialized(openvino, model, half=half)
    for target, content in ((path.with_suffix(".bin"), weights), (path, graph)):
        with written_whole(target, QuantizeError) as file:
            file.write(content)


def _serialized(openvino: Any, model: Any, *, half: bool) -> tuple[bytes, bytes]:
    """Return the graph and the weights as files hold them."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.xml"
        # The default, weights in half precision, would change float embeddings.
        openvino.save_model(model, graph, compress_to_fp16=half)
        return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()


def write_file(source: ExportSource, path: Path) -> None:
    """Write the files of OpenVINO out of the float ONNX file."""
    save_openvino(source.file("onnx"), path)


def write_bfloat16_file(source: ExportSource, path: Path) -> None:
    """Write the files that are computed in bfloat16 out of the float ONNX file."""
    save_openvino(source.file("onnx"), path, half=True)


def write_int8_file(source: ExportSource, path: Path) -> None:
    """Write the files of OpenVINO out of the int8 ONNX file."""
    save_openvino(source.file("onnx_int8"), path)


OPENVINO = Exporter(
    "openvino",
    "OpenVINO, made of the float ONNX file",
    "float.xml",
    write_file,
    made_of=("onnx",),
    meant_for="Intel (OpenVINO)",
    packages=("openvino",),
    extra="openvino",
    needs_model=False,
    batching="both",
    takes_pixels=True,
)
OPENVINO_BF16 = Exporter(
    "openvino_bf16",
    "OpenVINO in bfloat16, with weights in half precision",
    "bf16.xml",
    write_bfloat16_file,
    made_of=("onnx",),
    meant_for="Intel with AMX or AVX-512 BF16 (OpenVINO)",
    packages=("openvino",),
    extra="openvino",
    needs_model=False,
    batching="both",
    takes_pixels=True,
)
OPENVINO_INT8 = Exporter(
    "openvino_int8",
    "int8 OpenVINO, made of the int8 ONNX file",
    "int8.xml",
    write_int8_file,
    made_of=("onnx_int8",),
    int8=True,
    meant_for="Intel (OpenVINO)",
    packages=("openvino",),
    extra="openvino",
    needs_model=False,
    batching="both",
    takes_pixels=True,
)
