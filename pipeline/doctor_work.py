"""The work of ``reid-edge doctor``: compare outputs, try other inputs, walk through the layers."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.doctor_command import IMAGES
from pipeline.export_images import find_images
from pipeline.export_model import ExportModel, ModelChoice, load_export_model
from quantize.exporters.onnx_float import write_file
from quantize.layer_walk import Layer, walk
from reid_edge.core.backends import load_model_file, recognise
from reid_edge.core.errors import DataError, QuantizeError, ReidError
from reid_edge.core.exporter import CalibrationBatches, ExportSource
from reid_edge.core.model_file import FLOAT_INPUT, Embeddings, Images
from reid_edge.inference.embedder import (
    EmbeddingSpace,
    ImageEmbedder,
    check_embeddings,
    embed_batch,
    load_embedder,
    point_one_way,
    prepare_image,
    unit_vectors,
)

# Mean and lowest cosine at which files agree, as an export has them.
FLOAT_AGREES, INT8_AGREES = (0.999, 0.999), (0.98, 0.9)
# Another preparation is a reason if it mends so much of the difference.
_MENDS = 0.8
EXIT_DIFFERS = 1
# The outermost pixels have so much of a difference if the padding is its reason.
_AT_THE_BORDER = 0.9
# A layer uses at most a third of the steps of a range that is so many times as wide as its numbers.
_SHARED = 3.0
# Images whose layers are compared: all outputs are in memory at once.
_WALKED = 4


@dataclass(frozen=True)
class Trial:
    """Another way to give images to a file.

    Attributes:
        reason: why the file may need it.
        space: how images are prepared.
        scale: what prepared values are multiplied with.
    """

    reason: str
    space: EmbeddingSpace
    scale: float = 1.0


def examine(options: argparse.Namespace) -> int:
    """Print what differs and why.

    Returns:
        0 if the file agrees with the model, else 1.

    Raises:
        ReidError: the model, the file or the images cannot be used.
    """
    images = find_images(options.images)[:IMAGES]
    if len(images) < 2:
        raise DataError(f"{options.images}: has {len(images)} images; expected 2 or more")
    with tempfile.TemporaryDirectory() as scratch:
        model = load_export_model(ModelChoice.of(options), Path(scratch))
        size = load_model_file(options.file).metadata.input_size
        file = load_embedder(options.file, input_size=size or model.embedder.space.input_size)
        expected = _expected(model, images, options.images)
        found = _embed(file, images, file.space)
        if found.shape != expected.shape:
            raise QuantizeError(
                f"{options.file}: gives embeddings of {found.shape[1]} dimensions, the model of "
                f"{expected.shape[1]}; it is of another model"
            )
        layers = _layers(model, file, images, Path(scratch))
        is_int8 = _is_int8(options.file) or any(layer.quantized for layer in layers)
        cosines = _cosines(found, expected)
        mean, lowest = INT8_AGREES if is_int8 else FLOAT_AGREES
        agrees = bool(cosines.mean() >= mean and cosines.min() >= lowest)
        lines = [f"cosine to the model: lowest {cosines.min():.4f}, mean {cosines.mean():.4f}"]
        finite = np.isfinite(found).all(1)
        if not finite.all():
            lines.append(f"{(~finite).sum()} of {len(found)} embeddings are not finite")
        lines += _about_batch(file, images)
        if not agrees:
            lines += _about_size(model, file, images, found)
            lines += _about_input(file, images, expected, float(cosines.mean()))
        lines += _about_layers(layers, is_int8)
        if not agrees:
            lines += _about_ranges(layers)
    print("\n".join([*lines, "the file agrees" if agrees else "the file does not agree"]))  # noqa: T201
    return 0 if agrees else EXIT_DIFFERS


def _expected(model: ExportModel, images: list[Path], folder: Path) -> Embeddings:
    """Return the model's embeddings (N, D).

    Raises:
        ReidError: it does not give embeddings, or one for all images.
    """
    expected = _embed(model.embedder, images, model.embedder.space)
    check_embeddings(expected, model.embedder.path)
    if point_one_way(expected):
        raise DataError(
            f"{folder}: the model gives one embedding for all {len(images)} images; "
            "name a folder with images of different persons"
        )
    return expected


def _layers(
    model: ExportModel, file: ImageEmbedder, images: list[Path], scratch: Path
) -> list[Layer]:
    """Return the layers of an ONNX file beside the model's; none of other files."""
    if recognise(file.path).name != "onnx":
        return []
    if file.space.input_size != model.embedder.space.input_size:
        return []
    prepared, theirs = (
        np.stack([prepare_image(image, space) for image in images[:_WALKED]])
        for space in (model.embedder.space, file.space)
    )
    return walk(_float_onnx(model, scratch), file.path, prepared, theirs)


def _is_int8(path: Path) -> bool:
    """Return whether a file says of itself that it is int8."""
    metadata = load_model_file(path).metadata
    return bool(metadata.calibration_digest or metadata.engine or metadata.variant)


def _embed(
    embedder: ImageEmbedder, images: list[Path], space: EmbeddingSpace, scale: float = 1.0
) -> Embeddings:
    prepared: Images = np.stack([prepare_image(image, space) for image in images])
    if scale != 1:
        prepared = prepared * np.float32(scale)
    return unit_vectors(embed_batch(embedder, prepared))


def _cosines(found: Embeddings, expected: Embeddings) -> Embeddings:
    cosines: Embeddings = (found * expected).sum(1)
    return cosines


def _about_batch(file: ImageEmbedder, images: list[Path]) -> Iterator[str]:
    together = _embed(file, images, file.space)
    alone = np.concatenate([_embed(file, [image], file.space) for image in images])
    difference = float(np.abs(together - alone).max())
    if difference > 1e-4:
        yield (
            f"batch: an embedding differs by {difference:.1e} between a batch of {len(images)} and "
            "of 1: something in the file depends on the other images"
        )


def _about_size(
    model: ExportModel, file: ImageEmbedder, images: list[Path], found: Embeddings
) -> Iterator[str]:
    """Say whether the file takes images of another size, and whether that is all."""
    size, own = model.embedder.space.input_size, file.space.input_size
    if own == size:
        return
    line = f"resize: the file takes {own[0]}x{own[1]}, the model {size[0]}x{size[1]}"
    try:
        resized = _embed(model.embedder, images, replace(model.embedder.space, input_size=own))
    except ReidError:
        yield line
        return
    cosine = float(_cosines(found, resized).mean())
    yield f"{line}; on images of {own[0]}x{own[1]} their mean cosine is {cosine:.4f}"


def _trials(space: EmbeddingSpace) -> Iterator[Trial]:
    """Yield other ways to prepare images for a file that says ``space`` of itself."""
    other = "BGR" if space.colour_order == "RGB" else "RGB"
    turned = replace(space, colour_order=other)
    yield Trial(f"colour order: it takes {other}", turned)
    apart = replace(turned, mean=space.mean[::-1], std=space.std[::-1])
    yield Trial(f"colour order: it takes {other}, each colour with its own mean and std", apart)
    if space.input_form != FLOAT_INPUT:
        return
    plain = replace(space, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for order, one in (("", plain), (f" and {other}", replace(plain, colour_order=other))):
        yield Trial(f"normalisation twice: it takes colours in [0, 1]{order}", one)
        yield Trial(f"normalisation twice: it takes colours in [0, 255]{order}", one, 255)
    half = replace(space, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    yield Trial("normalisation: it takes a mean and std of 0.5", half)


def _about_input(
    file: ImageEmbedder, images: list[Path], expected: Embeddings, mean: float
) -> Iterator[str]:
    """Say which other preparation of the images mends most of the difference, if one does."""
    best, reason = mean, ""
    for trial in _trials(file.space):
        try:
            found = _embed(file, images, trial.space, trial.scale)
        except ReidError:
            continue
        cosine = float(_cosines(found, expected).mean())
        if cosine > best:
            best, reason = cosine, trial.reason
    if reason and best - mean >= _MENDS * (1 - mean):
        yield f"input: {reason}; the mean cosine is {best:.4f} then"
    else:
        yield "input: no other colour order or normalisation mends it"


def _about_layers(layers: list[Layer], is_int8: bool) -> Iterator[str]:
    if not layers:
        yield "layers: not compared, the file does not let them be seen or is of another structure"
        return
    limit = 0.2 if is_int8 else 1e-3
    # An error that is no number is one too.
    first = next((layer for layer in layers if not layer.error <= limit), None)
    if first is None:
        worst = max(layers, key=lambda layer: layer.error)
        yield (
            f"layers: {len(layers)} compared, none differs by more than {limit:g} of its length; "
            f"the largest error, {worst.error:.2g}, is in {worst.name} ({worst.operator})"
        )
        return
    yield (
        f"layers: the first of {len(layers)} that differs is {first.name} ({first.operator}), by "
        f"{first.error:.2g} of its length"
    )
    if first.border >= _AT_THE_BORDER:
        yield (
            f"padding: {100 * first.border:.0f}% of that difference is in the outermost pixels; "
            "the layer, or the one in front of it, pads another side or with another number"
        )
    if first.outside > 0.001:
        yield (
            f"saturation: {100 * first.outside:.1f}% of its values are outside of its int8 range; "
            "calibrate with more images, or with a wider range"
        )


def _about_ranges(layers: list[Layer]) -> Iterator[str]:
    """Say whether layers with ranges of different sizes have one int8 range."""
    worst = max(layers, key=lambda layer: layer.shared, default=None)
    if worst is not None and worst.shared >= _SHARED:
        count = sum(layer.shared >= _SHARED for layer in layers)
        yield (
            f"shared observer: {count} layers have the int8 range of another one whose numbers are "
            f"at least {_SHARED:g} times as large; in {worst.name} ({worst.operator}) it is "
            f"{worst.shared:.0f} times too wide. Give each call of a module a range of its own"
        )


def _float_onnx(model: ExportModel, scratch: Path) -> Path:
    """Return the model as this program's float ONNX file."""
    path = scratch / "model-of-doctor.onnx"
    source = ExportSource(
        model.module,
        torch.zeros(1, 3, *model.embedder.space.input_size),
        model.metadata,
        lambda: CalibrationBatches(()),
        onnx_file=model.onnx_file,
    )
    write_file(source, path)
    return path
