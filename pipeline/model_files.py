"""The model files of a run, and how each of them is opened to be measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.run_dir import StageRecord
from quantize.engine import Engine, quantized_engine, supported_engines
from quantize.torchscript import load_torchscript, read_torchscript_metadata
from quantize.worker import Call, Open
from reid_edge.inference.backends.base import model_file_parts, recognise
from reid_edge.inference.model_files import load_embedder
from reid_edge.models.checkpoint import load_checkpoint

ON_PC: Engine = "onednn"


@dataclass(frozen=True)
class ModelFile:
    """A model file of a run, on one engine.

    Attributes:
        name: ``stage/file``, and the engine where it is not the file's own.
        path: where it lies.
        kind: of file.
        engine: int8 engine of PyTorch that runs it; None for all others.
        input_size: (height, width).
        metrics: its accuracy by distance, as ``pipeline.evaluation.evaluate`` gives it; None where
            it was not measured on this engine.
        meant_for: the machine that it is made for.
    """

    name: str
    path: Path
    kind: str
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
        return partial(_open_eager if self.kind == "checkpoint" else _open, self.path)


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
    kind = recognise(path).name
    own = read_torchscript_metadata(path).get("engine") if kind == "torchscript" else None
    engines: list[Any] = [own]
    if own is not None and own != ON_PC and ON_PC in supported_engines():
        engines.append(ON_PC)
    return [
        ModelFile(
            name=entry["file"] if engine == own else f"{entry['file']} on {engine}",
            path=path,
            kind=kind,
            engine=engine,
            input_size=record.input_size,
            metrics=entry["metrics"] if engine == own else None,
            meant_for=meant_for(kind, engine, int8=bool(entry.get("int8"))),
        )
        for engine in engines
    ]


def meant_for(kind: str, engine: Engine | None, *, int8: bool) -> str:
    """Say for which machine a file is made."""
    if engine is not None:
        return {"qnnpack": "ARM (QNNPACK)"}.get(engine, f"x86-64 ({engine})")
    if kind == "openvino":
        return "Intel (OpenVINO)"
    if kind == "executorch":
        return "ARM, x86-64 (ExecuTorch, XNNPACK)"
    if kind == "onnx":
        return "x86-64 with VNNI, ARM with dot products" if int8 else "any (ONNX Runtime)"
    return {"checkpoint": "training (eager PyTorch)"}.get(kind, "any (libtorch)")


def _open_eager(path: Path) -> Call:
    # As a tracker's code runs it, with images in PyTorch's usual layout.
    model, _ = load_checkpoint(path)
    return model


def _open(path: Path) -> Call:
    return load_embedder(path).embed


def _open_int8(path: Path, engine: Engine) -> Call:
    module, _ = load_torchscript(path, engine)

    def call(images: Tensor) -> object:
        with quantized_engine(engine):
            return module(images)

    return call
