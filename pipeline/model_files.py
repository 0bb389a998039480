"""The model files of a run, and how each of them is opened to be measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.run_dir import StageRecord
from quantize.worker import Call, Open
from reid_edge.core.backends import load_model_file, model_file_parts, recognise
from reid_edge.core.int8_engine import Engine, supported_engines
from reid_edge.core.model_file import Backend, Embed, LoadOptions
from reid_edge.inference.backends.torchscript_runtime import read_torchscript_metadata
from reid_edge.models.checkpoint import load_checkpoint

ON_PC: Engine = "onednn"


@dataclass(frozen=True)
class ModelFile:
    """A model file of a run, on one engine.

    Attributes:
        name: ``stage/file``, and the engine where it is not the file's own.
        path: where it lies.
        backend: that runs it.
        engine: int8 engine of PyTorch that runs it; None for all others.
        input_size: (height, width).
        metrics: its accuracy by distance, as ``pipeline.evaluation.evaluate`` gives it; None where
            it was not measured on this engine.
        meant_for: the machine that it is made for.
    """

    name: str
    path: Path
    backend: Backend
    engine: Engine | None
    input_size: tuple[int, int]
    metrics: dict[str, Any] | None
    meant_for: str

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return sum(part.stat().st_size for part in model_file_parts(self.path))

    def opener(self) -> Open:
        """Return what loads it, in whatever process it is called."""
        if self.engine is not None:
            return partial(_open_int8, self.path, self.engine)
        if self.backend.name == "checkpoint":
            return partial(_open_eager, self.path)
        return partial(_open, self.path, self.backend)


def model_files(run: Path, made: Mapping[str, StageRecord]) -> list[ModelFile]:
    """Return the model files that stages made, in order.

    An int8 TorchScript file for another machine than this one comes twice: on its own engine, and
    on this machine's.

    Args:
        run: the run's folder.
        made: records of the stages. A stage's result names one ``file`` with its ``metrics``, or
            several in ``files``, a list of such pairs, which also say whether they are ``int8``.
    """
    found: list[ModelFile] = []
    for record in made.values():
        for entry in record.result.get("files", [record.result]):
            if "file" in entry:
                found += _on_engines(run, record, entry)
    return found


def _on_engines(run: Path, record: StageRecord, entry: Mapping[str, Any]) -> list[ModelFile]:
    path = run / entry["file"]
    backend = recognise(path)
    own = read_torchscript_metadata(path).engine if backend.name == "torchscript" else None
    engines: list[Any] = [own]
    if own is not None and own != ON_PC and ON_PC in supported_engines():
        engines.append(ON_PC)
    return [
        ModelFile(
            name=entry["file"] if engine == own else f"{entry['file']} on {engine}",
            path=path,
            backend=backend,
            engine=engine,
            input_size=record.input_size,
            metrics=entry["metrics"] if engine == own else None,
            meant_for=_meant_for(engine) or entry.get("meant_for") or backend.meant_for,
        )
        for engine in engines
    ]


def _meant_for(engine: Engine | None) -> str | None:
    """Say for which machine an int8 TorchScript file is made; the others' exporters say it."""
    if engine is None:
        return None
    return "ARM (QNNPACK)" if engine == "qnnpack" else f"x86-64 ({engine})"


def _open_eager(path: Path) -> Call:
    # As a tracker's code runs it, with images in PyTorch's usual layout.
    model, _ = load_checkpoint(path)
    return model


def _open(path: Path, backend: Backend) -> Call:
    return _on_tensors(load_model_file(path, backend=backend).embed)


def _open_int8(path: Path, engine: Engine) -> Call:
    return _on_tensors(load_model_file(path, LoadOptions(engine=engine)).embed)


def _on_tensors(embed: Embed) -> Call:
    return lambda images: embed(images.numpy())
