"""ONNX files, run by ONNX Runtime on the CPU; PyTorch is not needed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    Backend,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.inference.backends.base import in_batches_of, thread_count
from reid_edge.inference.backends.onnx_graph import read_contents

_log = logging.getLogger(__name__)


# By the name of ONNX Runtime: what images may be given as; it is cast from float32.
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_PIXELS = {"tensor(uint8)": np.uint8}
# It runs until its own condition ends it; no network that gives embeddings has one.
_ENDLESS = "Loop"


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an ONNX file that takes images and gives embeddings, the first of its outputs.

    Metadata is read from the file's own metadata, or where that has none from a JSON file beside
    it, ``model.json`` or ``model.onnx.json``. A batch size that is fixed in the graph is kept to.
    Images are cast to float16 or float64 where the graph takes that. A graph that takes pixels in
    uint8 is one that this program exported, whose metadata say in which order of colours.

    Raises:
        CheckpointError: the file or its metadata is damaged, a file with its weights is missing,
            it has an operator that may run for ever, or it does not take images alone or gives
            no numbers.
    """
    return load_graph(str(path), path, options, weight_files(path))


def load_graph(
    source: str | bytes, path: Path, options: LoadOptions, weights: tuple[Path, ...] = ()
) -> LoadedModel:
    """Load an ONNX graph.

    Args:
        source: path of an ONNX file, or the content of one.
        path: of the file that it is or is in, for messages.
        options: the number of threads counts.
        weights: files beside it that hold weights.

    Raises:
        CheckpointError: as for `load`.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = thread_count(options)
    settings.log_severity_level = 4  # errors are raised, and need not be printed
    try:
        session = onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        stored = session.get_modelmeta().custom_metadata_map
        problem = _problem(inputs, outputs, _PIXELS if "input_form" in stored else {})
    except Exception as error:  # ONNX Runtime's errors have no base of their own.
        _log.debug("ONNX Runtime refuses %s", path, exc_info=error)
        raise CheckpointError(
            f"{path}: not a readable ONNX file (damaged, or needs a newer onnxruntime)"
        ) from error
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}")
    (images,) = inputs
    batch, _, *sides = images.shape
    fixed = tuple(side if isinstance(side, int) else None for side in sides)
    metadata = _read_metadata(stored, path)
    if metadata.input_size is None and None not in fixed:
        height, width = sides
        metadata = replace(metadata, input_size=(height, width))

    def embed(given: Images) -> Embeddings:
        height, width = given.shape[-2:]
        if any(side not in (None, own) for side, own in zip(fixed, (height, width), strict=True)):
            expected = "x".join("any" if side is None else str(side) for side in fixed)
            raise ModelError(
                f"{path}: the model fails on images of {height}x{width}; it takes {expected}"
            )
        cast = np.ascontiguousarray(given, (_FLOATS | _PIXELS)[images.type])
        try:
            output = np.array(session.run([outputs[0].name], {images.name: cast})[0])
        except Exception as error:
            _log.debug("ONNX Runtime fails", exc_info=error)
            raise ModelError(
                f"{path}: the model fails on images of {height}x{width}; "
                "it may be made for another input size"
            ) from error
        if output.ndim != 2 or len(output) != len(given):
            raise ModelError(
                f"{path}: gives {output.shape} for {len(given)} images; expected one embedding "
                "for each"
            )
        return output.astype(np.float32, copy=False)

    whole = in_batches_of(batch, embed) if isinstance(batch, int) else embed
    return LoadedModel(whole, metadata, "ONNX", weights)


def _problem(
    inputs: Sequence[Any], outputs: Sequence[Any], others: Mapping[str, Any]
) -> str | None:
    """Return why a graph is not one from images to embeddings, or None if it is.

    Args:
        inputs: of the graph.
        outputs: of the graph.
        others: types that its input may have besides floats.
    """
    if not inputs:
        return "takes no input; expected images (N, 3, H, W)"
    if len(inputs) > 1:
        names = ", ".join(str(each.name) for each in inputs)
        return f"takes {len(inputs)} inputs ({names}); expected images alone"
    shape, kind = inputs[0].shape, inputs[0].type
    if kind not in {*_FLOATS, *others}:
        return (
            f"its input is {kind}; expected normalised images as float: export the model again "
            "without the normalisation in it"
        )
    if len(shape) != 4:
        return f"its input has shape {shape}, not (N, 3, H, W)"
    batch, channels, _, last = shape
    if isinstance(channels, int) and channels != 3:
        if last == 3:
            return f"its input has shape {shape}, channels last; expected (N, 3, H, W)"
        return f"its input has {channels} channels; expected 3, (N, 3, H, W)"
    if isinstance(batch, int) and batch < 1:
        return f"its input has shape {shape}, a batch of {batch}; expected 1 or more"
    kind = outputs[0].type if outputs else "nothing"
    if kind not in _FLOATS:
        return f"its output is {kind}; expected embeddings, numbers with a fraction"
    return None


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside an ONNX file that hold its tensors, if any do.

    Raises:
        CheckpointError: one of them is missing, or the file is damaged or not to be run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    files = []
    for name in weight_locations(content, path):
        file = path.parent / name
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise CheckpointError(f"{path}: its weights are in {name!r}, outside of its folder")
        if not file.is_file():
            raise CheckpointError(
                f"{file}: no such file; {path.name} has its weights in it: copy both"
            )
        files.append(file)
    return tuple(files)


def weight_locations(content: bytes, path: Path) -> list[str]:
    """Return the names of the files that hold tensors of an ONNX file with this content.

    Raises:
        CheckpointError: the content is damaged or not to be run.
    """
    try:
        contents = read_contents(content)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a readable ONNX file (damaged)") from error
    if _ENDLESS in contents.operators:
        raise CheckpointError(
            f"{path}: not loaded, it has the operator {_ENDLESS}, which may run for ever; export "
            "the model again without loops in its code"
        )
    return sorted(contents.locations)


def _read_metadata(stored: dict[str, str], path: Path) -> ModelMetadata:
    if "input_size" in stored or "architecture" in stored:
        return ModelMetadata.from_strings(stored, path)
    for beside in (path.with_name(path.name + ".json"), path.with_suffix(".json")):
        if beside.is_file():
            try:
                values = dict(json.loads(beside.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise CheckpointError(f"{beside}: not a readable JSON object") from error
            return ModelMetadata.from_strings(values, path)
    return ModelMetadata()


def _recognise(path: Path, head: bytes) -> bool:
    # An ONNX file is a protocol buffer that begins with its version, field 1, a small number.
    return path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and len(head) >= 4)


BACKEND = Backend("onnx", "ONNX", _recognise, load, meant_for="any (ONNX Runtime)")
