"""LiteRT (TensorFlow Lite) files, made of the PyTorch model by litert-torch: float and int8.

Images come with their channels last, as cameras give them. The int8 file has int8 images and
embeddings, weights with a scale for each channel, and no division by the length. Dense weights are
rounded by their inputs, as in int8 ONNX files. A layer that is called several times becomes one
layer a call, so that each call has ranges of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantize.quiet import hints_silenced
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import LITERT_METADATA
from reid_edge.core.packages import import_package

if TYPE_CHECKING:
    from torch import Tensor, nn

_SIGNATURE, _INPUT = "serving_default", "args_0"
# Images that int8 ranges are from at most; each is a call of the reference kernels.
CALIBRATION_IMAGES = 128
# Share of a layer's largest weight that each output channel has at least in int8.
_LEAST_WEIGHT = 2**-12


def save_litert(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a float model for LiteRT, with embeddings of unit length.

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        example: a batch (N, 3, H, W); the file takes batches of N, (N, H, W, 3).
        path: where to write; its folder exists. An existing file is replaced in one step.
        metadata: written into the file.

    Raises:
        QuantizeError: litert-torch is not installed or cannot convert the model, or the file
            cannot be written.
    """
    from quantize.fold import UnitLength, folded_copy

    network = UnitLength(folded_copy(model, example)).eval()
    _write(path, _converted(network, example), metadata)


def save_litert_int8(
    model: nn.Module,
    example: Tensor,
    calibration: Sequence[Tensor],
    path: Path,
    metadata: Mapping[str, str],
) -> None:
    """Write an int8 form of a float model for LiteRT.

    Args:
        model: as for `save_litert`.
        example: likewise.
        calibration: batches (N, 3, H, W), prepared exactly as for inference; the whole range of
            every tensor over up to 128 images is kept.
        path: likewise.
        metadata: likewise.

    Raises:
        QuantizeError: as for `save_litert`, or there are no calibration images.
    """
    import copy

    import torch
    from torch import nn

    from quantize.call_sites import split_call_sites
    from quantize.exporters.rounded_layers import round_layers
    from quantize.fold import fold_batchnorm
    from quantize.trace_check import check_trace

    if not calibration:
        raise QuantizeError("no calibration images: int8 ranges cannot be chosen without them")
    evaluated = copy.deepcopy(model).cpu().eval()
    graph = split_call_sites(evaluated)
    check_trace(graph, evaluated, calibration[0])
    fold_batchnorm(graph)
    for layer in graph.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            _make_room_for_biases(layer)
    round_layers(graph.eval(), calibration, path.name)
    images = torch.cat(list(calibration))
    chosen = torch.linspace(0, len(images) - 1, min(len(images), CALIBRATION_IMAGES)).long()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.tflite"
        file.write_bytes(_converted(graph.eval(), example))
        content = _quantized(file, images[chosen], len(example))
    _write(path, content, metadata)


def _make_room_for_biases(layer: nn.Conv2d | nn.Linear) -> None:
    """Raise the largest weight of output channels that have none or tiny ones, in place.

    A bias is an int32 in steps of the input's scale times the channel's weight scale. Where a
    BatchNorm's gain has decayed to zero, as in many trained networks, the steps are so small that
    the bias does not fit, and the quantizer cuts it off. What the raised weight adds to the output
    is less than a step of int8.
    """
    weights = layer.weight.detach().flatten(1)
    largest, places = weights.abs().max(1)
    assert layer.bias is not None
    least = (float(largest.max()) or float(layer.bias.detach().abs().max())) * _LEAST_WEIGHT
    for channel in (largest < least).nonzero().flatten().tolist():
        weights[channel, places[channel]] = least
    # With the channels innermost, the flat weights are a copy.
    layer.weight.detach().copy_(weights.reshape(layer.weight.shape))


def _converted(network: nn.Module, example: Tensor) -> bytes:
    litert_torch = _import("litert_torch")
    # A traced graph has modules that the switch to evaluation does not reach.
    for module in network.modules():
        module.training = False
    channels_last = litert_torch.to_channel_last_io(network, args=[0]).eval()
    images = example.permute(0, 2, 3, 1).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        try:
            with hints_silenced():
                litert_torch.convert(channels_last, (images,)).export(str(file))
        except Exception as error:  # what the converter raises has no common base
            reason = " ".join(str(error).partition("\n")[0].split())[:300]
            raise QuantizeError(f"litert-torch cannot convert the model: {reason}") from error
        return file.read_bytes()


def _quantized(file: Path, images: Tensor, batch: int) -> bytes:
    """Return the int8 form of a float file.

    The quantizer itself takes a moving average of the ranges, which begins at the first images and
    cuts off what later ones have; so each batch is observed alone.
    """
    tools, recipes = (_import(f"ai_edge_quantizer.{name}") for name in ("quantizer", "recipe"))

    def quantizer() -> Any:
        made = tools.Quantizer(str(file))
        made.load_quantization_recipe(recipes.static_wi8_ai8())
        return made

    with hints_silenced():
        observer = quantizer()
        ranges: dict[str, dict[str, Any]] = {}
        # The last batch is filled up with the first images.
        places = np.arange(-(-len(images) // batch) * batch) % len(images)
        for part in places.reshape(-1, batch):
            given = images[part].permute(0, 2, 3, 1).contiguous().numpy()
            found = observer.calibrate({_SIGNATURE: [{_INPUT: given}]}, num_threads=1)
            for name, values in found.items():
                if not values:
                    continue
                known = ranges.setdefault(name, dict(values))
                known["min"] = np.minimum(known["min"], values["min"])
                known["max"] = np.maximum(known["max"], values["max"])
        return bytes(quantizer().quantize(ranges).quantized_model)


def _write(path: Path, content: bytes, metadata: Mapping[str, str]) -> None:
    """Write a file with metadata in a buffer of its own."""
    schema = _import("ai_edge_litert.schema_py_generated")
    flatbuffers = _import("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    # The quantizer puts weights of 256 KiB or more behind the model, at places that move with it.
    for stored in model.buffers:
        if stored.offset > 1:
            place = slice(stored.offset, stored.offset + stored.size)
            stored.data = np.frombuffer(content[place], dtype=np.uint8)
            stored.offset = stored.size = 0
    buffer, note = schema.BufferT(), schema.MetadataT()
    text = json.dumps(dict(metadata), sort_keys=True)
    buffer.data = np.frombuffer(text.encode(), dtype=np.uint8)
    note.name, note.buffer = LITERT_METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), note]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    with written_whole(path, QuantizeError) as file:
        file.write(bytes(builder.Output()))


def _import(module: str) -> Any:
    return import_package(
        module, extra="litert-export", needed_by="LiteRT files", error=QuantizeError
    )


def write_file(source: ExportSource, path: Path) -> None:
    """Write the float file of an export."""
    example = source.example.expand(source.batch or 1, -1, -1, -1)
    save_litert(source.module, example, path, source.metadata.to_strings())


def write_int8_file(source: ExportSource, path: Path) -> None:
    """Write the int8 file of an export."""
    example = source.example.expand(source.batch or 1, -1, -1, -1)
    calibration = source.draw_calibration()
    metadata = source.int8_metadata(calibration).to_strings()
    save_litert_int8(source.module, example, calibration.batches, path, metadata)


LITERT = Exporter(
    "litert",
    "LiteRT (TensorFlow Lite), channels last",
    "float.tflite",
    write_file,
    meant_for="phones, boards (LiteRT)",
    packages=("litert_torch", "ai_edge_litert"),
    extra="litert-export",
    batching="fixed",
    own_process=True,
)
LITERT_INT8 = Exporter(
    "litert_int8",
    "int8 LiteRT, images and embeddings int8 too",
    "int8.tflite",
    write_int8_file,
    int8=True,
    meant_for="phones, boards, NPUs (LiteRT)",
    packages=("litert_torch", "ai_edge_litert", "ai_edge_quantizer"),
    extra="litert-export",
    batching="fixed",
    own_process=True,
)
