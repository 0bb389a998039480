"""A file format of an installed package: TorchScript behind a heading of its own."""

import io
import json
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor

from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.model_file import Backend, LoadedModel, LoadOptions, ModelMetadata
from reid_edge.inference.features import on_arrays

HEADING = b"toy file\n"


class ToySettings(BaseModel):
    """Settings of the exporter, below ``export.options.toy``."""

    factor: float = 1.0


def write(source: ExportSource, path: Path) -> None:
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(source.model, source.example), content)
    about = {**source.metadata.to_strings(), "factor": str(source.settings.factor)}
    path.write_bytes(HEADING + json.dumps(about).encode() + b"\n" + content.getvalue())


def recognise(path: Path, head: bytes) -> bool:
    del path
    return head.startswith(HEADING)


def load(path: Path, options: LoadOptions) -> LoadedModel:
    del options
    about, _, content = path.read_bytes().removeprefix(HEADING).partition(b"\n")
    metadata = ModelMetadata.from_strings(json.loads(about), path)
    module, factor = torch.jit.load(io.BytesIO(content)), float(metadata.notes["factor"])

    def run(images: Tensor) -> Tensor:
        return factor * module(images)

    return LoadedModel(on_arrays(run), metadata, "toy")


BACKEND = Backend("toy", "a toy file", recognise, load)
EXPORTER = Exporter(
    "toy",
    "TorchScript behind a heading",
    "model.toy",
    write,
    meant_for="toys",
    settings=ToySettings,
    backend=BACKEND,
)
