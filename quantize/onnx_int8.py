"""ONNX int8: a float ONNX file and images in, a QDQ file out, made by ONNX Runtime.

Activations become uint8, weights int8 with one scale per output channel. ONNX Runtime observes
tensors by name, so a gate that is called on four streams gets four ranges.
"""

import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from quantize.onnx import INPUT, onnx_session, read_onnx, read_onnx_metadata, with_metadata
from quantize.onnx_pooling import pooling_as_convolution
from quantize.writing import written_whole
from reid_edge.core.errors import QuantizeError

Calibration = Literal["percentile", "minmax", "entropy"]
_METHODS: dict[str, Any] = {
    "percentile": CalibrationMethod.Percentile,
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
}


def quantize_onnx(
    float_file: Path,
    calibration: Sequence[Tensor],
    path: Path,
    *,
    method: Calibration = "percentile",
    percentile: float = 99.999,
    per_channel: bool = True,
    reduce_range: bool = False,
    metadata: Mapping[str, str] | None = None,
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
        reduce_range: weights of 7 bits, for x86 processors without VNNI, which add up pairs of
            products in 16 bits and saturate.
        metadata: written into the file; by default the float file's.
        progress: called before each batch with the number of batches seen so far.

    Raises:
        QuantizeError: no calibration images, a float file that cannot be read, images of
            another size than its input, an activation that hardly varies over them, or an int8
            file that ONNX Runtime cannot run.
    """
    model = read_onnx(float_file)
    _check_calibration(calibration, onnx_session(float_file), float_file)
    with tempfile.TemporaryDirectory() as folder, _quiet(), _histograms_explained(float_file):
        prepared, int8 = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, str(prepared), skip_symbolic_shape=True)
        _write_pooling_as_convolution(prepared)
        quantize_static(
            str(prepared),
            str(int8),
            _Batches(calibration, progress),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[method],
            # One batch at a time: without it, the tensors of all batches are kept in memory.
            extra_options={"CalibPercentile": percentile, "CalibStridedMinMax": 1},
        )
        content = int8.read_bytes()
    content = with_metadata(
        content, read_onnx_metadata(float_file) if metadata is None else metadata
    )
    onnx_session(content)
    with written_whole(path) as file:
        file.write(content)


def int8_convolutions(path: Path) -> tuple[int, int]:
    """Return how many convolutions of a QDQ file have quantized weights, and how many there are."""
    graph = read_onnx(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return sum(_has_int8_weights(node, makers) for node in convolutions), len(convolutions)


def _has_int8_weights(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    return all(
        name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]
    )


@contextmanager
def _histograms_explained(float_file: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        # NumPy's words for bins narrower than what float32 can tell apart.
        if "Too many bins" not in str(error):
            raise
        raise QuantizeError(
            f"{float_file}: an activation hardly varies over the calibration images, so there is "
            "no histogram of it; is the model trained? If so, export.calibration=minmax takes the "
            "range as it is"
        ) from error


def _write_pooling_as_convolution(path: Path) -> None:
    model = onnx.load_model(path)
    if pooling_as_convolution(model):
        onnx.save_model(model, path)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Batches as ONNX Runtime asks for them: it chooses a range, then takes what is in it."""

    def __init__(
        self, batches: Sequence[Tensor], progress: Callable[[int], None] | None = None
    ) -> None:
        self._batches = batches
        self._progress = progress
        self._due: Iterator[Tensor] = iter(())

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        if self._progress is not None:
            self._progress(start_index)
        self._due = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._due, None)
        return None if batch is None else {INPUT: batch.numpy()}


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's prints and its hints for developers to itself."""
    former = logging.root.manager.disable
    with redirect_stdout(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(former)
