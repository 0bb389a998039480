"""TorchScript files: written whole or not at all, checked before, explained when unreadable."""

import json
import logging
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from quantize.engine import Engine, quantized_engine, uses_reduced_range
from quantize.quiet import torch_notices_silenced
from quantize.writing import written_whole
from reid_edge.core.errors import QuantizeError

METADATA_FILE = "metadata.json"
_log = logging.getLogger(__name__)


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
    batch of another size. An existing file is replaced in one step; an interrupted run leaves it
    as it was.

    Args:
        model: a float model, or what ``quantize_static`` made; on the CPU.
        example: a batch (N, 3, H, W); N does not limit the batches of the file, H and W may.
        path: where to write; its folder exists.
        metadata: written into the file, and given back by ``load_torchscript``.
        engine: the engine an int8 model was made for, noted in the metadata as ``engine``; none
            for a float model.
        freeze: make the weights constants of the program, which is smaller and a little faster;
            sums may be taken in another order then, so that the last bits of a float differ.

    Raises:
        QuantizeError: the model is in training mode, the trace differs from the model, the engine
            is not supported, or the file cannot be written.
    """
    if model.training:
        raise QuantizeError("a model is traced in evaluation mode, call eval() first")
    with _engine(engine), torch_notices_silenced(), torch.inference_mode():
        # Without the last argument the example, somebody's image, would become part of the file.
        traced = torch.jit.trace(model, example, check_trace=False, _store_inputs=False)  # type: ignore[no-untyped-call]
        _check_trace(model, traced, example)
        if freeze:
            traced = torch.jit.freeze(traced)
        with written_whole(path) as file:
            noted = {**metadata, **({} if engine is None else {"engine": engine})}
            extra_files = {METADATA_FILE: json.dumps(noted, sort_keys=True)}
            torch.jit.save(traced, file, _extra_files=extra_files)


def load_torchscript(
    path: Path, engine: Engine | None = None
) -> tuple[torch.jit.ScriptModule, dict[str, str]]:
    """Read a TorchScript file.

    Int8 weights are packed anew for the engine while loading, whatever engine the file was written
    with. Pooling and other operators without weights follow the engine that is current when the
    model runs: run it inside ``quantized_engine(engine)``. A file that was made for another engine
    than "x86" is read with a warning for "x86", which is best replaced by "onednn".

    Args:
        path: a file of ``save_torchscript``, or any TorchScript file.
        engine: engine to pack int8 weights for; by default that of the file's metadata.

    Returns:
        The module on the CPU in evaluation mode, and the metadata (empty if there is none).

    Raises:
        QuantizeError: the file is missing, cut short, or not TorchScript; the message names it.
    """
    metadata = read_torchscript_metadata(path)
    made_for = cast(Engine | None, metadata.get("engine"))
    engine = engine or made_for
    if made_for and engine and uses_reduced_range(engine) and not uses_reduced_range(made_for):
        message = "%s was made for %s: on %s, sums may overflow and embeddings be wrong"
        _log.warning(message, path, made_for, engine)
    with _engine(engine), torch_notices_silenced():
        try:
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise QuantizeError(f"{path}: not a TorchScript file") from error
    return cast(torch.jit.ScriptModule, module.eval()), metadata


def _engine(engine: Engine | None) -> AbstractContextManager[None]:
    return nullcontext() if engine is None else quantized_engine(engine)


def _check_trace(model: nn.Module, traced: nn.Module, example: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    other = torch.randn((len(example) + 1, *example.shape[1:]), generator=generator)
    for images, which in ((example, "the example"), (other, "a batch of another size")):
        try:
            same = torch.equal(model(images), traced(images))
        except RuntimeError as error:
            raise QuantizeError(f"the traced model fails on {which}") from error
        if not same:
            raise QuantizeError(f"the traced model differs from the model on {which}")


def read_torchscript_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a TorchScript file without loading its model; empty if it has none.

    Raises:
        QuantizeError: the file is missing, cut short, or not TorchScript; the message names it.
    """
    if not path.is_file():
        raise QuantizeError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"/extra/{METADATA_FILE}"):
                    return dict(json.loads(archive.read(name)))
    except (zipfile.BadZipFile, ValueError, TypeError) as error:
        with path.open("rb") as file:
            is_archive = file.read(4) == b"PK\x03\x04"
        problem = "cut short or damaged" if is_archive else "not a TorchScript file"
        raise QuantizeError(f"{path}: {problem}") from error
    return {}
