"""ExecuTorch files for XNNPACK, float and int8: images in, embeddings out, for phones.

The whole graph is handed to XNNPACK. Its int8 form is made by PyTorch 2's quantizer for it:
activations int8 per tensor, weights int8 per channel.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.quiet import hints_silenced
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import EXECUTORCH_METADATA
from reid_edge.core.packages import import_package

if TYPE_CHECKING:
    import torch
    from torch import Tensor, fx, nn

# Memory is planned for this many images at once.
LARGEST_BATCH = 64


def save_executorch(
    model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a float model for XNNPACK, with BatchNorm folded and a batch of 1 to 64.

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        example: a batch (N, 3, H, W).
        path: where to write; its folder exists. An existing file is replaced in one step.
        metadata: written into the file, returned by its method ``metadata``.

    Raises:
        QuantizeError: ExecuTorch is not installed or cannot carry the model, or the file cannot be
            written.
    """
    from quantize.fold import folded_copy

    with _export_errors(), _any_batch():
        content = _lowered(_exported(folded_copy(model, example), example), metadata)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


def save_executorch_int8(
    model: nn.Module, calibration: Sequence[Tensor], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write an int8 form of a float model for XNNPACK.

    A layer that is called several times becomes one layer a call: XNNPACK's delegate cannot create
    an int8 convolution whose bias serves two calls (docs/reference/int8.md).

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        calibration: batches (N, 3, H, W) of up to 64 images, prepared exactly as for inference.
        path: where to write; its folder exists. An existing file is replaced in one step.
        metadata: written into the file, returned by its method ``metadata``.

    Raises:
        QuantizeError: as for ``save_executorch``, or there are no calibration images.
    """
    from quantize.call_sites import split_call_sites
    from quantize.fold import fold_batchnorm
    from quantize.trace_check import check_trace

    if not calibration:
        raise QuantizeError("no calibration images: int8 ranges cannot be chosen without them")
    with _export_errors():
        evaluated = copy.deepcopy(model).cpu().eval()
        graph = split_call_sites(evaluated)
        check_trace(graph, evaluated, calibration[0])
        fold_batchnorm(graph)
        with _any_batch():
            exported = _exported(graph, calibration[0])
        quantized = _quantized(exported.module(), calibration)
        with _any_batch():
            content = _lowered(_exported(quantized, calibration[0]), metadata)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


def _exported(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    import torch

    # With an example of one image, the exporter would make the batch size constant.
    images = example[:2] if len(example) > 1 else example.repeat(2, 1, 1, 1)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    return torch.export.export(model, (images,), dynamic_shapes=({0: batch},))


def _quantized(model: nn.Module, calibration: Sequence[Tensor]) -> nn.Module:
    """Return the int8 form of an exported model, as PyTorch 2's quantizer for XNNPACK makes it."""
    import torch

    tools = _import("torchao.quantization.pt2e.quantize_pt2e")
    key = _import("torchao.quantization.pt2e.quantizer.quantizer").Q_ANNOTATION_KEY
    xnnpack = _import("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    settings = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = xnnpack.XNNPACKQuantizer().set_global(settings)
    annotate = quantizer.annotate

    def separate_pooling(graph: fx.GraphModule) -> fx.GraphModule:
        # Pooled outputs get their own range; the quantizer would keep the wider one of the map
        # (see quantize.pooling). XNNPACK supports pooling from one range into another.
        annotated: fx.GraphModule = annotate(graph)
        for node in annotated.graph.nodes:
            if node.target == torch.ops.aten.adaptive_avg_pool2d.default and key in node.meta:
                node.meta[key].output_qspec = settings.output_activation
        return annotated

    quantizer.annotate = separate_pooling
    with torch.no_grad():
        prepared = tools.prepare_pt2e(model, quantizer)
        for batch in calibration:
            prepared(batch)
        converted: nn.Module = tools.convert_pt2e(prepared)
        return converted


def _lowered(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    exir = _import("executorch.exir")
    partition = _import("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    lowered = exir.to_edge_transform_and_lower(
        program,
        partitioner=[partition.XnnpackPartitioner()],
        constant_methods={EXECUTORCH_METADATA: json.dumps(dict(metadata), sort_keys=True)},
    )
    return bytes(lowered.to_executorch().buffer)


@contextmanager
def _any_batch() -> Iterator[None]:
    """Keep oneDNN and NNPACK out of an export.

    PyTorch chooses them for a convolution by the batch size (below 16 or not). The exporter records
    that choice as a limit of the file's batch size.
    """
    import torch

    with (
        torch.backends.mkldnn.flags(enabled=False),
        torch.backends.nnpack.flags(enabled=False),
    ):
        yield


@contextmanager
def _export_errors() -> Iterator[None]:
    """Raise what fails in an export as one line, and silence the hints for developers."""
    try:
        with hints_silenced():
            yield
    except QuantizeError:
        raise
    except Exception as error:  # the exporter's errors have no common base
        reason = str(error).partition("\n")[0][:300]
        raise QuantizeError(f"the model cannot be written for ExecuTorch: {reason}") from error


def _import(module: str) -> Any:
    return import_package(
        module, extra="executorch", needed_by="ExecuTorch files", error=QuantizeError
    )


def write_file(source: ExportSource, path: Path) -> None:
    """Write the float file of an export."""
    from quantize.pixels import TakesPixels

    module, example = source.module, source.example
    if source.pixels is not None:
        module, example = TakesPixels(module, source.pixels).eval(), example.byte()
    save_executorch(module, example, path, source.metadata.to_strings())


def write_int8_file(source: ExportSource, path: Path) -> None:
    """Write the int8 file of an export."""
    calibration = source.draw_calibration()
    metadata = source.int8_metadata(calibration).to_strings()
    save_executorch_int8(source.module, calibration.batches, path, metadata)


EXECUTORCH = Exporter(
    "executorch",
    "ExecuTorch for XNNPACK, batches of 1 to 64",
    "float.pte",
    write_file,
    meant_for="ARM, x86-64 (ExecuTorch, XNNPACK)",
    packages=("executorch", "torchao"),
    extra="executorch",
    takes_pixels=True,
)
EXECUTORCH_INT8 = Exporter(
    "executorch_int8",
    "int8 ExecuTorch for XNNPACK",
    "int8.pte",
    write_int8_file,
    int8=True,
    meant_for="ARM, x86-64 (ExecuTorch, XNNPACK)",
    packages=("executorch", "torchao"),
    extra="executorch",
)
