"""ONNX files: images in, embeddings of unit length out, with metadata.

The exporter is PyTorch's older one (``dynamo=False``). For a folded model it makes about as many
nodes as the newer one and a smaller file, takes a tenth of the time, and needs no further package.
It also writes pooling as pooling, for which ONNX Runtime has int8 kernels
(docs/results/exported-files.md).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.exporters.onnx_edits import set_batch
from quantize.exporters.onnx_pixels import take_pixels
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource, PixelInput
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT, boxmot_name

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

# Operator sets, the oldest one that has int8 per channel first: old runtimes and the converters of
# device makers read no newer ones. Some layers need one, such as attention, which came with 14.
OPSETS = (13, 14, 15, 16, 17, 18, 19, 20)
OPSET = OPSETS[0]
TOLERANCE = 1e-4


def save_onnx(
    model: nn.Module,
    example: Tensor,
    path: Path,
    metadata: Mapping[str, str],
    *,
    batch: int | None = None,
    opset: int | None = None,
    pixels: PixelInput | None = None,
) -> None:
    """Write a float model as ONNX: input ``input``, output ``reid_features`` of unit length.

    BatchNorm is folded, the batch is dynamic unless one is given, height and width are those of the
    example. The embeddings of the file in ONNX Runtime are compared with the model's, on the
    example (on random images where every image of it has one colour) and on random images in a
    batch of another size. An existing file is replaced in one step.

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        example: a batch (N, 3, H, W).
        path: where to write; its folder exists.
        metadata: written into the file, and given back by ``read_onnx_metadata``.
        batch: images in a call of the file; None: any number.
        opset: of the file; None: the lowest that works, 13 or more.
        pixels: take pixels in uint8 and normalise them; None: take normalised images.

    Raises:
        QuantizeError: the model cannot be traced or exported, the file gives other embeddings, or
            it cannot be written.
    """
    import numpy as np
    import torch

    from quantize.fold import UnitLength, folded_copy
    from quantize.quiet import torch_notices_silenced

    network = UnitLength(folded_copy(model, example)).eval()
    with torch_notices_silenced(), torch.inference_mode():
        content = with_metadata(traced_onnx(network, example, opset), metadata)
    session = onnx_session(content)
    generator = torch.Generator().manual_seed(0)
    other = torch.randn((len(example) + 1, *example.shape[1:]), generator=generator)
    checked = (example, "the example")
    if bool((example.amin((2, 3)) == example.amax((2, 3))).all()):
        # Zeros stand for a shape. On an image of one colour, ONNX Runtime's mean of a plane adds
        # thousands of equal numbers and rounds each time in the same direction: a hundred times
        # the error that it has on other images, which says nothing of the file.
        checked = (other[: len(example)], "random images")
    for images, which in (checked, (other, "a batch of another size")):
        (found,) = session.run([ONNX_OUTPUT], {ONNX_INPUT: images.numpy()})
        with torch.inference_mode():
            expected = network(images).numpy()
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:
            raise QuantizeError(
                f"{path}: ONNX Runtime's embeddings differ by {difference:.1e} from the model's on "
                f"{which}, more than {TOLERANCE:.0e}; not written"
            )
    if batch is not None or pixels is not None:
        content = _edited(content, batch, pixels)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


def traced_onnx(network: nn.Module, example: Tensor, opset: int | None) -> bytes:
    """Return a network as ONNX, with this program's names and a dynamic batch.

    Args:
        network: from images to embeddings, PyTorch's or TorchScript's.
        example: (1, 3, H, W).
        opset: of the file; None: the oldest that has all layers.

    Raises:
        QuantizeError: it cannot be traced or exported.
    """
    import torch
    from torch.onnx.errors import UnsupportedOperatorError

    for version in OPSETS if opset is None else (opset,):
        exported = io.BytesIO()
        try:
            # It prints the whole graph where it fails.
            with redirect_stdout(io.StringIO()):
                torch.onnx.export(
                    network,
                    (example,),
                    exported,  # type: ignore[arg-type]
                    dynamo=False,
                    opset_version=version,
                    input_names=[ONNX_INPUT],
                    output_names=[ONNX_OUTPUT],
                    dynamic_axes={ONNX_INPUT: {0: "batch"}, ONNX_OUTPUT: {0: "batch"}},
                )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            if isinstance(error, UnsupportedOperatorError) and version < OPSETS[-1] and not opset:
                continue
            reason = str(error).partition("\n")[0]
            raise QuantizeError(f"the model cannot be written as ONNX: {reason}") from error
        return exported.getvalue()
    raise AssertionError("the last operator set gives a file or an error")


def _edited(content: bytes, batch: int | None, pixels: PixelInput | None) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    set_batch(model, batch)
    if pixels is not None:
        take_pixels(model, pixels)
    return bytes(model.SerializeToString(deterministic=True))


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file's content with this metadata instead of its own."""
    import onnx

    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    return bytes(model.SerializeToString(deterministic=True))


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file.

    Raises:
        QuantizeError: the file is missing or not ONNX; the message names it.
    """
    return {entry.key: entry.value for entry in read_onnx(path).metadata_props}


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        QuantizeError: the file is missing or not ONNX; the message names it.
    """
    import onnx

    if not path.is_file():
        raise QuantizeError(f"{path}: no such file")
    try:
        model = onnx.load_model(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors have no common base
        raise QuantizeError(f"{path}: not an ONNX file, or cut short") from error
    return model


def onnx_session(content: bytes | Path, *, threads: int = 1) -> Any:
    """Open an ONNX file, or the content of one, in ONNX Runtime on the CPU.

    Raises:
        QuantizeError: ONNX Runtime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, and need not be printed
    source = content if isinstance(content, bytes) else str(content)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        reason = str(error).partition("\n")[0]
        raise QuantizeError(f"ONNX Runtime cannot run the model: {reason}") from error


def write_file(source: ExportSource, path: Path) -> None:
    """Write the float ONNX file of an export."""
    metadata = source.metadata.to_strings()
    batch, opset, pixels = source.batch, source.opset, source.pixels
    if source.onnx_file is None:
        save_onnx(
            source.module, source.example, path, metadata, batch=batch, opset=opset, pixels=pixels
        )
        return
    from quantize.exporters.onnx_adopt import adopt_onnx

    adopted = adopt_onnx(
        source.onnx_file, source.example, batch=batch, opset=opset, projection=source.projection
    )
    if pixels is not None:
        take_pixels(adopted, pixels)
    content = with_metadata(adopted.SerializeToString(), metadata)
    with written_whole(path, QuantizeError) as file:
        file.write(content)


ONNX = Exporter(
    "onnx",
    "ONNX with embeddings of unit length and a dynamic batch",
    "float.onnx",
    write_file,
    meant_for="any (ONNX Runtime)",
    needs_model=False,
    batching="both",
    takes_pixels=True,
)
BOXMOT_ONNX = Exporter(
    "boxmot_onnx",
    "the ONNX file under the name that BoxMOT expects",
    lambda source: f"{boxmot_name(source.metadata.architecture, source.dataset)}.onnx",
    write_file,
    timed=False,
    meant_for="trackers (BoxMOT)",
    batching="both",
)
