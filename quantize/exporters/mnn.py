"""MNN files, made of ONNX files by MNN's converter; metadata is JSON text in the field ``bizCode``.

The module ``MNN.tools`` is not imported: it installs a package with pip and reports every
conversion to its maker. Its native part ``_tools`` does neither.
"""

import hashlib
import json
import tempfile
import uuid
from pathlib import Path

from quantize.exporters.onnx_float import read_onnx, read_onnx_metadata
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import MNN_BATCH
from reid_edge.core.packages import import_package

_UUID_LENGTH = len(str(uuid.UUID(int=0)))


def save_mnn(onnx_file: Path, path: Path, *, weight_bits: int | None = None) -> None:
    """Write an ONNX file for MNN, with the same names, metadata and batch.

    A file with rounded weights does not get the threshold of the float one.

    Args:
        onnx_file: float.
        path: where to write; its folder exists. An existing file is replaced in one step.
        weight_bits: of weights, symmetric, with a scale for each output channel; None: float.

    Raises:
        QuantizeError: MNN is not installed or cannot convert the file, or nothing can be written.
    """
    tools = import_package("_tools", extra="mnn", needed_by=path, error=QuantizeError)
    metadata = read_onnx_metadata(onnx_file)
    batch = read_onnx(onnx_file).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if batch:
        metadata[MNN_BATCH] = str(batch)
    if weight_bits is not None:
        metadata.pop("threshold", None)  # that of the float file
        metadata["variant"] = "weights"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.mnn"
        options = ["--bizCode", json.dumps(metadata, sort_keys=True)]
        if weight_bits is not None:
            options += ["--weightQuantBits", str(weight_bits), "--weightQuantAsymmetric", "0"]
        converted = tools.mnnconvert(
            ["MNNConvert", "-f", "ONNX", "--modelFile", str(onnx_file), "--MNNModel", str(made),
             *options]
        )  # fmt: skip
        if not converted or not made.is_file():
            raise QuantizeError(f"{onnx_file}: MNN cannot convert it")
        content = made.read_bytes()
    with written_whole(path, QuantizeError) as file:
        file.write(_with_stable_id(content))


def _with_stable_id(content: bytes) -> bytes:
    """Return an MNN file whose random identifier depends on its content, and so its bytes do."""
    import MNN

    with tempfile.NamedTemporaryFile(suffix=".mnn") as file:
        file.write(content)
        file.flush()
        former = str(MNN.get_model_uuid(file.name)).encode()
    if len(former) != _UUID_LENGTH or content.count(former) != 1:
        return content
    blank = content.replace(former, bytes(_UUID_LENGTH))
    made = uuid.UUID(bytes=hashlib.sha256(blank).digest()[:16])
    return content.replace(former, str(made).encode())


def write_file(source: ExportSource, path: Path) -> None:
    """Write the float file out of the float ONNX file."""
    save_mnn(source.file("onnx"), path)


def write_int8_file(source: ExportSource, path: Path) -> None:
    """Write the file with int8 weights out of the float ONNX file."""
    save_mnn(source.file("onnx"), path, weight_bits=8)


MNN_FLOAT = Exporter(
    "mnn",
    "MNN, made of the float ONNX file",
    "float.mnn",
    write_file,
    made_of=("onnx",),
    meant_for="phones, ARM boards (MNN)",
    packages=("MNN",),
    extra="mnn",
    needs_model=False,
    batching="both",
    own_process=True,
)
MNN_INT8 = Exporter(
    "mnn_int8",
    "MNN with int8 weights per channel and float activations",
    "int8.mnn",
    write_int8_file,
    made_of=("onnx",),
    int8=True,
    meant_for="phones, ARM boards (MNN)",
    packages=("MNN",),
    extra="mnn",
    needs_model=False,
    batching="both",
    own_process=True,
)
