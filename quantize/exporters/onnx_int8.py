"""ONNX int8: a float ONNX file and images in, a QDQ file out, made by ONNX Runtime.

Activations become uint8, weights int8 with one scale per output channel. ONNX Runtime observes
tensors by name, so a gate that is called on four streams gets four ranges.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from quantize.exporters.onnx_adopt import takes_any_batch
from quantize.exporters.onnx_edits import keep_used_opsets, set_batch
from quantize.exporters.onnx_float import (
    onnx_session,
    read_onnx,
    read_onnx_metadata,
    with_metadata,
)
from quantize.exporters.onnx_tail import unit_length_nodes
from quantize.quiet import hints_silenced
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import ONNX_INPUT

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

# Images that weights are rounded and biases corrected on.
REFINED_ON = 32
Calibration = Literal["percentile", "minmax", "entropy"]

logger = logging.getLogger(__name__)


class OnnxInt8Settings(BaseModel):
    """How ONNX Runtime finds ranges; keys of the section ``export``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    calibration: Calibration = "percentile"
    percentile: float = Field(99.999, gt=50, le=100)
    reduce_range: bool = False


def quantize_onnx(
    float_file: Path,
    calibration: Sequence[Tensor],
    path: Path,
    *,
    method: Calibration = "percentile",
    percentile: float = 99.999,
    per_channel: bool = True,
    reduce_range: bool = False,
    symmetric: bool = False,
    refined: bool = True,
    metadata: Mapping[str, str] | None = None,
    batch: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write an int8 form of a float ONNX file.

    Args:
        float_file: made by ``save_onnx``; its input is named ``input``.
        calibration: batches (N, 3, H, W), prepared exactly as for inference.
        path: where to write; its folder exists. An existing file is replaced in one step.
        method: how the range of an activation is chosen: "percentile" leaves out the outermost
            values, "minmax" takes the whole range, "entropy" minimises the divergence from float.
        percentile: share of values within the range, in per cent; for "percentile" alone.
        per_channel: one weight scale per output channel instead of one per layer.
        reduce_range: weights of 7 bits, for x86 processors without VNNI: they add pairs of products
            in 16 bits, which saturate.
        symmetric: activations int8 with zero points of 0 in place of uint8, biases in float, and
            pooling as it is, as TensorRT takes it.
        refined: round weights and correct biases on some of the images, see ``onnx_refine``; it
            takes as long as a few hundred images take, and changes no latency.
        metadata: written into the file; by default the float file's.
        batch: images in a call of the file; None: as the float file has it.
        progress: called before each batch with the number of batches seen so far.

    Raises:
        QuantizeError: no calibration images, a float file that cannot be read or holds another
            batch, images of another size than its input, an activation that hardly varies over
            them, or an int8 file that ONNX Runtime cannot run.
    """
    import onnx
    import torch
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from quantize.exporters.onnx_refine import name_layers, refine

    methods = {
        "percentile": CalibrationMethod.Percentile,
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
    }
    model = read_onnx(float_file)
    _check_calibration(calibration, onnx_session(float_file), float_file)
    own = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    # A network may hold its batch inside, where other ones mix the images: a Reshape to (2, D).
    held = bool(own) and (batch is None or not takes_any_batch(model, own))
    if held and batch not in (None, own):
        raise QuantizeError(f"{float_file}: holds a batch of {own}, so that it cannot take {batch}")
    if batch is not None and not held:
        set_batch(model, None)  # for calibration
    if held:
        images = torch.cat(list(calibration))
        # Whole batches alone; fewer images than one are repeated.
        places = torch.arange(max(len(images) // own, 1) * own) % len(images)
        calibration = torch.split(images[places], own)
    with tempfile.TemporaryDirectory() as folder, hints_silenced():
        prepared, int8 = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        # Given as a file: from a model in memory all constants are taken out, and ONNX Runtime then
        # lacks those that operators of set 18 and later take their axes from.
        given = Path(folder) / "float.onnx"
        onnx.save_model(model, given)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        pooled = onnx.load_model(prepared)
        if not symmetric:
            pooling_as_convolution(pooled)
        name_layers(pooled)
        onnx.save_model(pooled, prepared)
        # In int8 the bound of the length would become one of its steps.
        excluded = [node.name for node in unit_length_nodes(pooled)] if symmetric else []
        try:
            quantize_static(
                str(prepared),
                str(int8),
                _batches(calibration, progress),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                reduce_range=reduce_range,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=methods[method],
                nodes_to_exclude=excluded,
                extra_options={
                    "CalibPercentile": percentile,
                    # One batch at a time: without it, the tensors of all are kept in memory.
                    "CalibStridedMinMax": 1,
                    "ActivationSymmetric": symmetric,
                    "QuantizeBias": not symmetric,
                },
            )
        except ValueError as error:
            # NumPy's message if the bins are narrower than the resolution of float32.
            if "Too many bins" not in str(error):
                raise
            raise QuantizeError(
                f"{float_file}: an activation hardly varies over the calibration images, so there "
                "is no histogram of it; is the model trained? If so, export.calibration=minmax "
                "takes the range as it is"
            ) from error
        content = int8.read_bytes()
    quantized = onnx.load_model_from_string(content)
    if refined:
        number = max(REFINED_ON // own, 1) * own if held else REFINED_ON
        images = torch.cat(list(calibration))[:number]
        logger.info("%s: fitting weights and biases on %d images", path.name, len(images))
        try:
            largest = 64 if reduce_range else 127
            refine(pooled, quantized, images, batch=own if held else None, largest=largest)
        except QuantizeError as error:  # a node that needs what is around it, such as If
            logger.warning("%s: weights are rounded to the nearest: %s", path.name, error)
            quantized = onnx.load_model_from_string(content)
    keep_used_opsets(quantized)
    if batch is not None:
        set_batch(quantized, batch)
    content = with_metadata(
        quantized.SerializeToString(),
        read_onnx_metadata(float_file) if metadata is None else metadata,
    )
    onnx_session(content)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


def int8_convolutions(path: Path) -> tuple[int, int]:
    """Return how many convolutions of a QDQ file have quantized weights, and how many there are."""
    graph = read_onnx(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    int8 = sum(
        all(
            name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]
        )
        for node in convolutions
    )
    return int8, len(convolutions)


def _batches(batches: Sequence[Tensor], progress: Callable[[int], None] | None) -> Any:
    """Return the batches as a data reader of ONNX Runtime, which reads them range by range."""
    from onnxruntime.quantization import CalibrationDataReader

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.due: Iterator[Tensor] = iter(())

        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            if progress is not None:
                progress(start_index)
            self.due = iter(batches[start_index:end_index])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.due, None)
            return None if batch is None else {ONNX_INPUT: batch.numpy()}

    return Batches()


def _check_calibration(batches: Sequence[Tensor], session: Any, path: Path) -> None:
    if not batches:
        raise QuantizeError("no calibration images: int8 ranges cannot be chosen without them")
    _, *expected = session.get_inputs()[0].shape
    for index, batch in enumerate(batches):
        if list(batch.shape[1:]) != expected:
            raise QuantizeError(
                f"calibration batch {index} holds images of size {tuple(batch.shape[1:])}, "
                f"{path} takes {tuple(expected)}"
            )


def pooling_as_convolution(model: onnx.ModelProto) -> int:
    """Replace average pooling by depthwise convolutions with equal weights, in place.

    ONNX Runtime's int8 average pooling takes ten times as long as its int8 depthwise convolution of
    the same size: in OSNet x0.5 two pooling layers are a tenth of the whole
    (docs/results/latency.md). The weights of a channel are all equal, so int8 holds them without an
    error. Pooling with padding stays, because its divisor changes at the border.

    Args:
        model: a model whose shapes are inferred (``onnx.shape_inference``).

    Returns:
        The number of pooling layers replaced.

    Raises:
        QuantizeError: the shape of a pooling layer's input is not known.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.input)
    }
    replaced = 0
    for node in model.graph.node:
        found = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        padded = any(found.get("pads", ())) or found.get("auto_pad", b"NOTSET") != b"NOTSET"
        if node.op_type != "AveragePool" or padded or found.get("ceil_mode", 0):
            continue
        channels = (shapes.get(node.input[0]) or [0, 0])[1]
        if not channels:
            raise QuantizeError(f"{node.name}: the number of its channels is not known")
        kernel = found["kernel_shape"]
        weights = np.full((channels, 1, *kernel), 1 / np.prod(kernel), dtype=np.float32)
        name = f"{node.output[0]}_weights"
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
        node.op_type = "Conv"
        node.input.append(name)
        kept = [entry for entry in node.attribute if entry.name in ("kernel_shape", "strides")]
        attributes = [*kept, helper.make_attribute("group", channels)]
        del node.attribute[:]
        node.attribute.extend(attributes)
        replaced += 1
    return replaced


def write_file(source: ExportSource, path: Path) -> None:
    """Write the int8 file of an export out of its float file, or its own one of another batch."""
    settings = source.settings or OnnxInt8Settings()
    for sibling in source.siblings.values():
        model = read_onnx(sibling)
        set_batch(model, source.batch)
        with written_whole(path, QuantizeError) as file:
            file.write(model.SerializeToString(deterministic=True))
        return
    calibration = source.draw_calibration()
    quantize_onnx(
        source.file("onnx"),
        calibration.batches,
        path,
        method=settings.calibration,
        percentile=settings.percentile,
        reduce_range=settings.reduce_range,
        metadata=source.int8_metadata(calibration).to_strings(),
        batch=source.batch,
    )
    logger.info("export: %s: %d of %d convolutions are int8", path.name, *int8_convolutions(path))


ONNX_INT8 = Exporter(
    "onnx_int8",
    "int8 ONNX (QDQ), calibrated by ONNX Runtime",
    "int8.onnx",
    write_file,
    made_of=("onnx",),
    int8=True,
    meant_for="x86-64 with VNNI, ARM with dot products",
    settings=OnnxInt8Settings,
    needs_model=False,
    batching="both",
    takes_pixels=True,
)
