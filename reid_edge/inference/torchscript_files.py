"""TorchScript files as models for inference, float and int8."""

import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.inference.loaded_model import LoadedModel, parse_metadata

METADATA_FILE = "metadata.json"


def load_torchscript_file(path: Path) -> LoadedModel:
    """Load a TorchScript file.

    The file's extra file ``metadata.json``, if there is one, is a JSON object with the keys of
    `parse_metadata`. Where it names an int8 engine, this is the current engine whenever the model
    is loaded or run, and at no other time.

    Args:
        path: a file of ``torch.jit.save``. PyTorch reads tensors and TorchScript code out of it,
            no Python objects.

    Raises:
        CheckpointError: the file is damaged, or its metadata is.
        ModelError: its int8 engine is not supported on this machine.
    """
    metadata = parse_metadata(_read_metadata(path), path)
    if metadata.engine is not None:
        _check_engine(metadata.engine, path)
    with _current_engine(metadata.engine), warnings.catch_warnings():
        # PyTorch announces that TorchScript is deprecated; the user of a file can do nothing.
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: not a readable TorchScript file (damaged, or of a newer PyTorch)"
            ) from error

    def embed(images: Tensor) -> Tensor:
        with _current_engine(metadata.engine):
            embeddings: Tensor = module(images)
            return embeddings

    kind = f"TorchScript int8 for {metadata.engine}" if metadata.engine else "TorchScript"
    return LoadedModel(embed, metadata, kind)


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"/extra/{METADATA_FILE}"):
                    return dict(json.loads(archive.read(name)))
    except (zipfile.BadZipFile, OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged metadata; export the model again") from error
    return {}


def _check_engine(engine: str, path: Path) -> None:
    supported = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if engine not in supported:
        raise ModelError(
            f"{path}: made for the int8 engine {engine!r}, which this machine does not have; "
            f"it has {', '.join(supported) or 'none'}"
        )


@contextmanager
def _current_engine(engine: str | None) -> Iterator[None]:
    former = torch.backends.quantized.engine
    try:
        if engine is not None:
            torch.backends.quantized.engine = engine
        yield
    finally:
        torch.backends.quantized.engine = former
