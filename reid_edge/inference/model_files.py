"""Any model file as an embedder, told apart by what is in it."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from torch import nn

from reid_edge.core.devices import Device, choose_device
from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_files
from reid_edge.data.paths import expand_home
from reid_edge.inference.checkpoint_files import load_checkpoint_file
from reid_edge.inference.embedder import (
    COLOUR_ORDERS,
    Embedder,
    EmbeddingSpace,
    average_over_flip,
)
from reid_edge.inference.executorch_files import load_executorch_file
from reid_edge.inference.features import Embed, embed_on
from reid_edge.inference.loaded_model import LoadedModel
from reid_edge.inference.onnx_files import load_onnx_file
from reid_edge.inference.openvino_files import load_openvino_file
from reid_edge.inference.torchscript_files import load_torchscript_file

FileKind = Literal["checkpoint", "torchscript", "onnx", "openvino", "executorch"]
DEFAULT_INPUT_SIZE = (256, 128)
LARGEST_SIDE = 4096
# Bytes at a file's beginning that tell of what kind it is.
_HEAD = 256
_EXPORTED: Mapping[FileKind, Callable[[Path], LoadedModel]] = {
    "torchscript": load_torchscript_file,
    "onnx": load_onnx_file,
    "openvino": load_openvino_file,
    "executorch": load_executorch_file,
}


def load_embedder(
    path: Path,
    *,
    architecture: str | None = None,
    input_size: tuple[int, int] | None = None,
    flip_averaging: bool = False,
    device: Device = "cpu",
) -> Embedder:
    """Load a model file for inference; nothing in it is unpickled.

    Args:
        path: a checkpoint of this program or of torchreid, FastReID or BoxMOT, a TorchScript file,
            an ONNX file, the ``.xml`` of an OpenVINO file, or an ExecuTorch file.
        architecture: of a checkpoint that does not say; by default read off the file's name. Where
            the file says, it must be the same.
        input_size: (height, width) in pixels; by default the file's own, or 256 x 128.
        flip_averaging: average each embedding over the image and its mirror image.
        device: where a checkpoint runs; exported files run on the CPU, with "auto" too.

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        DataError: its path begins with the home of nobody.
        ModelError: the architecture is not known, or the model cannot be run here.
    """
    path = expand_home(path)
    loaded = _load(path, architecture)
    embed = _placed(loaded, path, device)
    metadata = loaded.metadata
    if metadata.colour_order not in COLOUR_ORDERS:
        raise CheckpointError(
            f"{path}: colour order {metadata.colour_order!r}; expected {' or '.join(COLOUR_ORDERS)}"
        )
    if not all(std > 0 for std in metadata.std):
        raise CheckpointError(f"{path}: a std of {metadata.std}; expected above zero")
    size = input_size or metadata.input_size or DEFAULT_INPUT_SIZE
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ModelError(
            f"an input of {size[0]}x{size[1]}: sides are of 1 to {LARGEST_SIDE} pixels"
        )
    return Embedder(
        embed=average_over_flip(embed) if flip_averaging else embed,
        space=EmbeddingSpace(
            file_hash=hash_files((path, *loaded.weight_files)),
            input_size=size,
            flip_averaging=flip_averaging,
            architecture=metadata.architecture,
            mean=metadata.mean,
            std=metadata.std,
            colour_order=metadata.colour_order,
        ),
        description=f"{metadata.architecture or 'unnamed model'}, {loaded.kind}",
        path=path,
    )


def recognise_model_file(path: Path) -> FileKind:
    """Tell by a file's content what kind of model file it is.

    Raises:
        CheckpointError: it is missing, cut short, or of no kind that is known.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; give the path of a model file")
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if start[:4] == b"PK\x03\x04":
        return _kind_of_archive(path)
    if start[:1] == b"\x80":
        return "checkpoint"
    if start[4:6] == b"ET":
        return "executorch"
    # An ONNX file is a protocol buffer that begins with its version, field 1, a small number.
    if path.suffix.lower() == ".onnx" or (start[:1] == b"\x08" and len(start) >= 4):
        return "onnx"
    if start[:5] == b"<?xml" and b"<net" in start:
        return "openvino"
    raise CheckpointError(
        f"{path}: not a model file that is known; expected a checkpoint, TorchScript, ONNX, "
        "ExecuTorch, or the .xml of an OpenVINO file"
    )


def model_file_parts(path: Path) -> list[Path]:
    """Return the files that a model is made of: its file, and the weights beside OpenVINO's."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def _load(path: Path, architecture: str | None) -> LoadedModel:
    kind = recognise_model_file(path)
    if kind == "checkpoint":
        loaded = load_checkpoint_file(path, architecture)
    else:
        loaded = _EXPORTED[kind](path)
    noted = loaded.metadata.architecture
    if noted and architecture not in (None, noted):
        raise CheckpointError(f"{path}: is of {noted}, not of {architecture}")
    return loaded


def _placed(loaded: LoadedModel, path: Path, device: Device) -> Embed:
    if isinstance(loaded.embed, nn.Module):
        return embed_on(loaded.embed, choose_device(device))
    if device == "cuda":
        raise ModelError(
            f"{path}: a file of the kind {loaded.kind!r} runs on the CPU; leave the device out, or "
            "give the checkpoint that it was exported from"
        )
    return loaded.embed


def _kind_of_archive(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path}: cut short or damaged; copy it again") from error
    return "torchscript" if any("/code/" in name for name in names) else "checkpoint"
