"""The model files of a run, and how each one is loaded for measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.stage_results import StageRecord
from quantize.worker import Call
from reid_edge.core.backends import load_model_file, model_file_parts, recognise
from reid_edge.core.int8_engine import Engine, supported_engines
from reid_edge.core.model_file import Backend, LoadOptions
from reid_edge.inference.backends.torchscript_runtime import read_torchscript_metadata
from reid_edge.metrics.results import Evaluation
from reid_edge.models.checkpoint import load_checkpoint

ON_PC: Engine = "onednn"
# For which machine an int8 TorchScript file is made.
INT8_MACHINES: Mapping[Engine, str] = {
    "qnnpack": "ARM (QNNPACK)",
    "x86": "x86-64 (x86)",
    "onednn": "x86-64 (onednn)",
}


@dataclass(frozen=True)
class ModelFile:
    """A model file of a run, on one engine.

    Attributes:
        name: ``stage/file``, and the engine where it is not the file's own.
        path: where it is.
        backend: that runs it.
        engine: int8 engine of PyTorch that runs it; None for all others.
        input_size: (height, width).
        metrics: its accuracy; None where it was not measured on this engine.
        meant_for: the machine that it is made for.
    """

    name: str
    path: Path
    backend: Backend
    engine: Engine | None
    input_size: tuple[int, int]
    metrics: Evaluation | None
    meant_for: str

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return sum(part.stat().st_size for part in model_file_parts(self.path))

    def open(self) -> Call:
        """Load the file; the method can be passed to another process."""
        if self.engine is None and self.backend.name == "checkpoint":
            # As a tracker's code runs it, with images in PyTorch's usual layout.
            model, _ = load_checkpoint(self.path)
            return model
        if self.engine is not None:
            file = load_model_file(self.path, LoadOptions(engine=self.engine))
        else:
            file = load_model_file(self.path, backend=self.backend)
        return lambda images: file.embed(images.numpy())


def model_files(run: Path, made: Mapping[str, StageRecord]) -> list[ModelFile]:
    """Return the model files that stages made, in order.

    An int8 TorchScript file for another machine is listed twice: on its own engine, and on this
    machine's engine.

    Args:
        run: the run's folder.
        made: records of the stages.
    """
    found: list[ModelFile] = []
    for record in made.values():
        model = record.result.model
        if model is not None:
            found += _on_engines(run, record, model.file, model.metrics)
        for file in record.result.files:
            if file.timed and file.path is not None:
                found += _on_engines(run, record, file.path, file.metrics, file.meant_for)
    return found


def _on_engines(
    run: Path, record: StageRecord, file: str, metrics: Evaluation | None, meant_for: str = ""
) -> list[ModelFile]:
    path = run / file
    backend = recognise(path)
    own = read_torchscript_metadata(path).engine if backend.name == "torchscript" else None
    engines: list[Any] = [own]
    if own is not None and own != ON_PC and ON_PC in supported_engines():
        engines.append(ON_PC)
    return [
        ModelFile(
            name=file if engine == own else f"{file} on {engine}",
            path=path,
            backend=backend,
            engine=engine,
            input_size=record.input_size,
            metrics=metrics if engine == own else None,
            # The exporters of all other files say it.
            meant_for=INT8_MACHINES[engine] if engine else meant_for or backend.meant_for,
        )
        for engine in engines
    ]
