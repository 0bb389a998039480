"""OpenVINO files, made of ONNX files: ``model.xml``, the graph, and beside it ``model.bin``.

A QDQ file, in int8, stays in int8: OpenVINO reads its scales as they are.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from quantize.extras import import_extra
from quantize.onnx import read_onnx_metadata
from quantize.writing import written_whole
from reid_edge.core.errors import QuantizeError

# Where in the graph's file our metadata stands.
METADATA_SECTION = "reid_edge"
# The SHA-256 of the weights, so that the graph's file tells which weights belong to it.
WEIGHTS_HASH = "weights_hash"


def save_openvino(onnx_file: Path, path: Path) -> None:
    """Write an ONNX file as OpenVINO's two, with the same names, metadata and dynamic batch.

    Existing files are replaced, the one with the weights first: until the graph follows, it does
    not fit them and is refused.

    Args:
        onnx_file: float, or int8 as ``quantize_onnx`` writes it.
        path: where to write the graph, ``.xml``; the weights go beside it, ``.bin``.

    Raises:
        QuantizeError: OpenVINO is not installed or cannot convert the file, or nothing can be
            written.
    """
    openvino = import_extra("openvino")
    metadata = read_onnx_metadata(onnx_file)
    try:
        model = openvino.Core().read_model(onnx_file)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise QuantizeError(f"{onnx_file}: OpenVINO cannot convert it: {reason}") from error
    _name_the_unnamed(model)
    _, weights = _serialized(openvino, model)
    noted = {**metadata, WEIGHTS_HASH: hashlib.sha256(weights).hexdigest()}
    for key, value in sorted(noted.items()):
        model.set_rt_info(value, [METADATA_SECTION, key])
    graph, _ = _serialized(openvino, model)
    for target, content in ((path.with_suffix(".bin"), weights), (path, graph)):
        with written_whole(target) as file:
            file.write(content)


def _name_the_unnamed(model: Any) -> None:
    """Name what has no name of its own by its place, not by all that was read in this process."""
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


def _serialized(openvino: Any, model: Any) -> tuple[bytes, bytes]:
    """Return the graph and the weights as files hold them."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.xml"
        # Weights in half precision, the default, would move float embeddings.
        openvino.save_model(model, graph, compress_to_fp16=False)
        return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()
