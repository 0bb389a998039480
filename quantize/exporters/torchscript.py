"""TorchScript files, float and int8: traced, compared with the model, and written."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.exporters.torchscript_archive import canonical
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.int8_engine import Engine, quantized_engine
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import TORCHSCRIPT_METADATA

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_torchscript(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str],
    *,
    engine: Engine | None = None,
    freeze: bool = False,
) -> None:
    """Trace a model in evaluation mode, check the trace, and write it with its metadata.

    The trace has to give the same bits as the model on the example and on random images in a
    batch of another size. An existing file is replaced in one step. The bytes of the file depend
    on the model, the metadata and the version of PyTorch, and on nothing else.

    Args:
        model: a float model, or what ``quantize_static`` made; on the CPU.
        example: a batch (N, 3, H, W); N does not limit the batches of the file, H and W may.
        path: where to write; its folder exists.
        metadata: written into the file, and given back by the backend for TorchScript.
        engine: the engine an int8 model was made for, noted in the metadata as ``engine``; none
            for a float model.
        freeze: make the weights constants of the program, which is smaller and a little faster;
            sums may then have another order, so the last bits may differ.

    Raises:
        QuantizeError: the model is in training mode, the trace differs from the model, the engine
            is not supported, or the file cannot be written.
    """
    import torch

    from quantize.quiet import torch_notices_silenced

    if model.training:
        raise QuantizeError("a model is traced in evaluation mode, call eval() first")
    # A trace notes the flags of cuDNN, which a training in the same process changes.
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=True
    )
    with flags, quantized_engine(engine), torch_notices_silenced(), torch.inference_mode():
        # The last argument keeps the example, which may be a person's image, out of the file.
        traced = torch.jit.trace(model, example, check_trace=False, _store_inputs=False)  # type: ignore[no-untyped-call]
        _check_trace(model, traced, example)
        if freeze:
            traced = torch.jit.freeze(traced)
        noted = {**metadata, **({} if engine is None else {"engine": engine})}
        extra_files = {TORCHSCRIPT_METADATA: json.dumps(noted, sort_keys=True)}
        archive = io.BytesIO()
        torch.jit.save(traced, archive, _extra_files=extra_files)
        with written_whole(path, QuantizeError) as file:
            file.write(canonical(archive.getvalue()))


def _check_trace(model: nn.Module, traced: nn.Module, example: Tensor) -> None:
    """Compare a traced model with the model, on batches of two sizes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    other = torch.randn((len(example) + 1, *example.shape[1:]), generator=generator)
    for images, which in ((example, "the example"), (other, "a batch of another size")):
        try:
            same = torch.equal(model(images), traced(images))
        except RuntimeError as error:
            raise QuantizeError(f"the traced model fails on {which}") from error
        if not same:
            raise QuantizeError(f"the traced model differs from the model on {which}")


def write_file(source: ExportSource, path: Path) -> None:
    """Write the float file of an export."""
    from quantize.fold import folded_copy
    from quantize.pixels import TakesPixels
    from quantize.trace_check import trace

    folded = folded_copy(source.module, source.example)
    if source.pixels is not None:
        folded = trace(TakesPixels(folded, source.pixels).eval())
    save_torchscript(folded, source.example, path, source.metadata.to_strings(), freeze=True)


def write_int8_file(source: ExportSource, path: Path) -> None:
    """Write static int8 for QNNPACK; the stage quantize offers more."""
    from quantize.calibrate import DEFAULT_SCHEME
    from quantize.static import quantize_static

    calibration = source.draw_calibration()
    int8 = quantize_static(source.module, calibration.batches)
    metadata = replace(source.int8_metadata(calibration), variant="static")
    engine = DEFAULT_SCHEME.engine
    save_torchscript(int8, source.example, path, metadata.to_strings(), engine=engine)


TORCHSCRIPT = Exporter(
    "torchscript",
    "TorchScript for libtorch, BatchNorm folded, weights frozen",
    "float.pt",
    write_file,
    meant_for="any (libtorch)",
    takes_pixels=True,
)
TORCHSCRIPT_INT8 = Exporter(
    "torchscript_int8",
    "int8 TorchScript for QNNPACK; a run has it from the stage quantize",
    "int8.pt",
    write_int8_file,
    int8=True,
    meant_for="ARM (QNNPACK)",
)
