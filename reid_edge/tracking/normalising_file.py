"""An ONNX file of a model that takes RGB in [0, 1] and normalises it itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.core.errors import QuantizeError
from reid_edge.core.io import write_bytes
from reid_edge.core.model_file import ModelMetadata
from reid_edge.core.packages import import_package
from reid_edge.inference.frames import Embedder

if TYPE_CHECKING:
    import onnx

    from reid_edge.inference.embedder import EmbeddingSpace

# ONNX Runtime adds up in another order where the graph has another first node.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class FileContents:
    """What an ONNX file says.

    Attributes:
        batch: that it is fixed to, or None.
        threshold: in its metadata, or None.
        quantized: whether it is int8.
    """

    batch: int | None
    threshold: float | None
    quantized: bool


def write_normalising(embedder: Embedder, path: Path) -> FileContents:
    """Write an ONNX file of a model that takes RGB in [0, 1] and normalises it itself.

    Returns:
        What the model's own file says.

    Raises:
        QuantizeError: the package onnx is missing, the model takes no float images, or the file
            does not give the same embeddings.
    """
    source, space = embedder.model.path, embedder.model.space
    onnx = import_package("onnx", extra="compress", needed_by=source, error=QuantizeError)
    try:
        model = onnx.load_model(source)
    except Exception as error:  # protobuf's errors have no common base
        raise QuantizeError(f"{source}: not an ONNX file, or cut short") from error
    images = _input_of(model)
    kind = onnx.helper.tensor_dtype_to_np_dtype(images.type.tensor_type.elem_type)
    if not np.issubdtype(kind, np.floating):
        raise QuantizeError(f"{source}: takes images of {kind}; trackers give it float images")
    _normalise(model, images.name, kind, space)
    own = {entry.key: entry.value for entry in model.metadata_props}
    own |= {"mean": "[0.0, 0.0, 0.0]", "std": "[1.0, 1.0, 1.0]", "colour_order": "RGB"}
    own |= {"input_size": str(list(space.input_size)), "architecture": space.architecture}
    onnx.helper.set_model_props(model, dict(sorted(own.items())))
    write_bytes(path, model.SerializeToString(deterministic=True))
    _check_alike(path, embedder)
    return FileContents(
        batch=images.type.tensor_type.shape.dim[0].dim_value or None,
        threshold=ModelMetadata.from_strings(own, source).threshold,
        quantized=any("QuantizeLinear" in node.op_type for node in model.graph.node),
    )


def _input_of(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return the images' input; old files list their weights among the inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    images: onnx.ValueInfoProto
    (images,) = (value for value in model.graph.input if value.name not in weights)
    return images


def _normalise(model: onnx.ModelProto, images: str, kind: Any, space: EmbeddingSpace) -> None:
    """Put order, mean and std of the colours behind an input, in place.

    Args:
        model: the network.
        images: name of the input.
        kind: NumPy's type of it.
        space: of the model.
    """
    from onnx import helper, numpy_helper

    steps: list[tuple[str, np.ndarray, dict[str, Any]]] = []
    if space.colour_order == "BGR":
        steps.append(("Gather", np.array([2, 1, 0], dtype=np.int64), {"axis": 1}))
    for operator, colours in (("Sub", space.mean), ("Div", space.std)):
        steps.append((operator, np.array(colours, dtype=kind).reshape(1, 3, 1, 1), {}))
    graph, last, nodes = model.graph, images, []
    for operator, values, attributes in steps:
        name = f"reid_edge/{operator}"
        constant, output = f"{name}/constant", f"{name}/output"
        graph.initializer.append(numpy_helper.from_array(values, constant))
        nodes.append(helper.make_node(operator, [last, constant], [output], name, **attributes))
        last = output
    for node in graph.node:
        for place, read in enumerate(node.input):
            if read == images:
                node.input[place] = last
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _check_alike(path: Path, embedder: Embedder) -> None:
    """Check that a file gives a model's embeddings of crops of noise; remove it if it does not.

    Raises:
        QuantizeError: it does not.
    """
    frame = np.random.default_rng(0).integers(0, 256, (96, 48, 3), dtype=np.uint8)
    boxes = [[0, 0, 48, 96], [8, 4, 40, 60]]
    difference = float(np.abs(Embedder(path)(frame, boxes) - embedder(frame, boxes)).max())
    if not difference <= TOLERANCE:
        path.unlink()
        raise QuantizeError(
            f"{path}: its embeddings differ by {difference:.1e} from those of "
            f"{embedder.model.path}; not written"
        )
