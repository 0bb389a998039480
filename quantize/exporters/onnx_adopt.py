"""An ONNX file of another program as this program writes its own.

The input is named ``input``, the output ``reid_features`` and of unit length, and the batch is
dynamic if the network allows it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.exporters.onnx_edits import (
    RESERVED,
    add_projection,
    add_unit_length,
    free_names,
    free_reshapes,
    keep_used_opsets,
    network_inputs,
    opset_of,
    rename_tensors,
    set_batch,
)
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Projection
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

# int8 per channel needs it.
_OLDEST_OPSET = 13
_EMBEDDING = "embedding"
_UNIT = 1e-4
_SAME = 1e-4
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}


def adopt_onnx(
    path: Path,
    example: Tensor,
    *,
    batch: int | None = None,
    opset: int | None = None,
    projection: Projection | None = None,
) -> onnx.ModelProto:
    """Return the network of an ONNX file in this program's form, with weights inside.

    Args:
        path: of a float file that takes images (N, 3, H, W) and gives embeddings (N, D).
        example: (1, 3, H, W); an input of any height and width becomes one of this size.
        batch: images in a call; None: any number, or as many as the network holds.
        opset: to convert to; None: the network's own, or 13 if that is older.
        projection: of its embeddings.

    Raises:
        QuantizeError: the file is of another kind, cannot be read or converted, holds another
            batch, or ONNX Runtime cannot run it.
    """
    import onnx

    try:
        model = onnx.load_model(path)
    except Exception as error:  # protobuf's errors and those of missing weights have no common base
        reason = str(error).partition("\n")[0][:200]
        raise QuantizeError(f"{path}: not a readable ONNX file ({reason})") from error
    check_network(model, path)
    model = _of_opset(model, opset, path)
    graph = model.graph
    (images,) = network_inputs(graph)
    own_batch = images.type.tensor_type.shape.dim[0].dim_value or None
    free_names(
        graph, [name for name in RESERVED if name not in (images.name, graph.output[0].name)]
    )
    rename_tensors(graph, {images.name: ONNX_INPUT, graph.output[0].name: _EMBEDDING})
    (images,) = network_inputs(graph)
    for others in [value for value in graph.input if value.name != ONNX_INPUT]:
        graph.input.remove(others)  # weights, which would be inputs that may be replaced
    for place, side in zip((2, 3), example.shape[2:], strict=True):
        images.type.tensor_type.shape.dim[place].dim_value = side
    found = _embeddings(model, path, own_batch)
    element = onnx.TensorProto.FLOAT
    del graph.output[:]
    dims = found.shape[1] if projection is None else len(projection.weight)
    graph.output.append(onnx.helper.make_tensor_value_info(ONNX_OUTPUT, element, ["batch", dims]))
    if projection is not None:
        add_projection(model, _EMBEDDING, projection)
    elif (abs((found**2).sum(1) - 1) < _UNIT).all():
        rename_tensors(graph, {_EMBEDDING: ONNX_OUTPUT})
    else:
        add_unit_length(model, _EMBEDDING)
    if own_batch is not None:
        free_reshapes(model)
    free = own_batch is None or takes_any_batch(model, own_batch)
    if not free and batch not in (None, own_batch):
        raise QuantizeError(
            f"{path}: the network holds a batch of {own_batch}, so that it cannot take {batch}; "
            f"export it with a dynamic batch, or leave --batch {own_batch}"
        )
    set_batch(model, batch if free else own_batch)
    keep_used_opsets(model)
    return model


def check_network(model: onnx.ModelProto, path: Path) -> None:
    """Check that a file is a float network from images to embeddings.

    Raises:
        QuantizeError: it is not; the message says what it has.
    """
    import onnx

    graph = model.graph
    inputs = network_inputs(graph)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise QuantizeError(f"{path}: takes {len(inputs)} inputs ({names}); expected images alone")
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise QuantizeError(
            f"{path}: gives {len(graph.output)} outputs ({names}); expected embeddings (N, D) "
            "alone: export the network without the others"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise QuantizeError(
            f"{path}: its input is {kind}; expected float32 images: export the float32 network"
        )
    rank, channels = len(tensor.shape.dim), [dim.dim_value for dim in tensor.shape.dim][1:2]
    if rank != 4 or channels[0] not in (0, 3):
        sides = [dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim]
        raise QuantizeError(
            f"{path}: its input has shape ({', '.join(map(str, sides))}), expected (N, 3, H, W)"
        )
    if any(node.op_type in _QUANTIZED for node in graph.node):
        raise QuantizeError(f"{path}: is int8 already; give the float file that it was made of")


def _of_opset(model: onnx.ModelProto, opset: int | None, path: Path) -> onnx.ModelProto:
    from onnx import version_converter

    own = opset_of(model)
    if own == opset or (opset is None and own >= _OLDEST_OPSET):
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(
            model, opset or _OLDEST_OPSET
        )
    except Exception as error:  # the converter's errors have no common base
        if opset is None:  # a float file may keep its own; int8 per channel is refused later
            return model
        raise QuantizeError(f"{path}: cannot be converted from opset {own} to {opset}") from error
    return converted


def _embeddings(model: onnx.ModelProto, path: Path, batch: int | None) -> Any:
    """Return what a network gives for random images, (N, D)."""
    (found,) = _run(model, [_EMBEDDING], batch or 2)
    if found.ndim != 2 or len(found) != (batch or 2):
        raise QuantizeError(
            f"{path}: gives {tuple(found.shape)} for {batch or 2} images; expected an embedding "
            "(N, D) for each"
        )
    return found


def takes_any_batch(model: onnx.ModelProto, own: int) -> bool:
    """Return whether a network with a fixed batch gives the same embeddings in another batch.

    Args:
        model: with this program's names; it takes images as float32 or as pixels, uint8.
        own: its batch.
    """
    import numpy as np
    import onnx

    (fixed,) = _run(model, [ONNX_OUTPUT], own)
    free = onnx.ModelProto()
    free.CopyFrom(model)
    set_batch(free, None)
    try:
        (more,) = _run(free, [ONNX_OUTPUT], own + 1)
    except QuantizeError:
        return False
    return len(more) == own + 1 and float(np.abs(more[:own] - fixed).max()) <= _SAME


def _run(model: onnx.ModelProto, outputs: list[str], batch: int) -> list[Any]:
    """Run a network on random images.

    Raises:
        QuantizeError: ONNX Runtime cannot load or run it.
    """
    import numpy as np
    import onnx

    from quantize.exporters.onnx_float import onnx_session

    (images,) = network_inputs(model.graph)
    tensor = images.type.tensor_type
    shape = (batch, 3, *(dim.dim_value for dim in tensor.shape.dim[2:]))
    generator = np.random.default_rng(0)
    given: Any = generator.standard_normal(shape, np.float32)
    if tensor.elem_type == onnx.TensorProto.UINT8:
        given = generator.integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        onnx.save_model(model, file)
        session = onnx_session(file)
    try:
        found: list[Any] = session.run(outputs, {images.name: given})
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = " ".join(str(error).split())[:200]
        raise QuantizeError(f"ONNX Runtime cannot run the network: {reason}") from error
    return found
