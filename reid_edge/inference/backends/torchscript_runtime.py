"""TorchScript files, float and int8, run by PyTorch on the CPU."""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.archive import ARCHIVE_HEAD, find_damage
from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.int8_engine import quantized_engine, uses_reduced_range
from reid_edge.core.library_warnings import log_warnings
from reid_edge.core.model_file import (
    TORCHSCRIPT_METADATA,
    Backend,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
    archive_names,
)
from reid_edge.inference.backends.torchscript_check import check_torchscript
from reid_edge.inference.backends.torchscript_trial import try_in_own_process

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_log = logging.getLogger(__name__)


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load a TorchScript file.

    PyTorch reads tensors and TorchScript code out of it, no Python objects. The code may compute
    and do nothing else: `check_torchscript` reads it before PyTorch does. Where the options or
    the file's metadata name an int8 engine, this is the current engine whenever the model is loaded
    or run, and at no other time.

    Raises:
        CheckpointError: the file is damaged, or its metadata is.
        ModelError: the int8 engine is not supported on this machine.
    """
    from reid_edge.inference.features import on_arrays

    module, metadata = load_torchscript(path, options.engine)
    engine = options.engine or metadata.engine

    def run(images: Tensor) -> Tensor:
        with quantized_engine(engine):
            embeddings: Tensor = module(images)
            return embeddings

    description = f"TorchScript int8 for {engine}" if engine else "TorchScript"
    return LoadedModel(on_arrays(run), metadata, description)


def load_torchscript(
    path: Path, engine: str | None = None
) -> tuple[torch.jit.ScriptModule, ModelMetadata]:
    """Load a TorchScript file as a module of PyTorch.

    PyTorch packs int8 weights for the engine while it loads them, whatever engine the file was
    written with. Pooling and other operators without weights follow the engine that is current when
    the model runs: run it inside ``quantized_engine(engine)``. A file that was made for another
    engine than "x86" is loaded for "x86" with a warning; "onednn" is the better choice there.

    Args:
        path: a file of ``torch.jit.save``.
        engine: engine to pack int8 weights for; by default that of the file's metadata.

    Returns:
        The module on the CPU in evaluation mode, and the metadata.

    Raises:
        CheckpointError: the file is missing, cut short, not TorchScript, has damaged metadata, or
            an entry of it differs from its checksum, or it uses an operator that may do more than
            compute, or a loop that does not end.
        ModelError: the engine is not supported on this machine.
    """
    import torch

    metadata = read_torchscript_metadata(path)
    damage = find_damage(path)
    if damage is not None:
        raise CheckpointError(f"{path}: cut short or damaged ({damage}); copy it again")
    made_for = metadata.engine
    engine = engine or made_for
    supported = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if engine is not None and engine not in supported:
        raise ModelError(
            f"{path}: made for the int8 engine {engine!r}, which this machine does not have; "
            f"it has {', '.join(supported) or 'none'}"
        )
    if made_for and engine and uses_reduced_range(engine) and not uses_reduced_range(made_for):
        message = "%s was made for %s: on %s, sums may overflow and embeddings be wrong"
        _log.warning(message, path, made_for, engine)
    if check_torchscript(path):
        try_in_own_process(path, metadata)
    with quantized_engine(engine), warnings.catch_warnings():
        # PyTorch announces that TorchScript is deprecated; the user of a file can do nothing.
        log_warnings()
        try:
            module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except Exception as error:  # damage shows as almost any exception
            raise CheckpointError(
                f"{path}: not a readable TorchScript file (damaged, or of a newer PyTorch)"
            ) from error
    return module, metadata


def read_torchscript_metadata(path: Path) -> ModelMetadata:
    """Read the metadata of a TorchScript file without its model; defaults where it has none.

    Raises:
        CheckpointError: the file is missing, cut short or not an archive, or its metadata is
            damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    values: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"/extra/{TORCHSCRIPT_METADATA}"):
                    values = dict(json.loads(archive.read(name)))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged metadata; export the model again") from error
    except Exception as error:  # damage shows as almost any exception
        with path.open("rb") as file:
            is_archive = file.read(4) == ARCHIVE_HEAD
        problem = "cut short or damaged; copy it again" if is_archive else "not a TorchScript file"
        raise CheckpointError(f"{path}: {problem}") from error
    return ModelMetadata.from_strings(values, path)


def _recognise(path: Path, head: bytes) -> bool:
    return any("/code/" in name for name in archive_names(path, head))


BACKEND = Backend(
    "torchscript",
    "TorchScript",
    _recognise,
    load,
    meant_for="any (libtorch)",
    packages=("torch",),
    extra="compress",
)
