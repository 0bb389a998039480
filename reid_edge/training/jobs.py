"""What rank zero sends the other ranks: a training, images to embed, or other work with a model.

The content is JSON and tensors, which ``torch.load(weights_only=True)`` reads; models are
checkpoints of this program.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from reid_edge.core.io import write_bytes
from reid_edge.data.schema import Protocol, ReidData, Sample
from reid_edge.metrics import Distance
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import LAST
from reid_edge.training.settings import (
    DdpSettings,
    DistillationSettings,
    Strategy,
    TrainingSettings,
)
from reid_edge.training.validation import Validation
from reid_edge.training.world import World

J = TypeVar("J", bound=BaseModel)

# (path, person, camera)
Row = tuple[str, int, int]


class _Job(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ValidationJob(_Job):
    """See :class:`reid_edge.training.validation.Validation`."""

    query: tuple[Row, ...]
    gallery: tuple[Row, ...]
    protocol: Protocol
    has_cameras: bool
    distance: Distance
    batch_size: int


class FitJob(_Job):
    """A training; see :class:`reid_edge.training.fit_config.FitConfig`."""

    images: tuple[Row, ...]
    settings: TrainingSettings
    ddp: DdpSettings
    height: int
    width: int
    seed: int
    label: str
    validation: ValidationJob | None
    distillation: DistillationSettings | None
    hints: tuple[str, ...]
    dimensions: int | None
    accelerator: str
    strategy: Strategy
    devices: int
    num_nodes: int
    workers: int
    epochs_done: int


class EmbedJob(_Job):
    """Images to embed."""

    images: tuple[str, ...]
    height: int
    width: int
    batch_size: int
    workers: int
    device: str


def send_fit(world: World, model: nn.Module, config: FitConfig, *, epochs_done: int) -> None:
    """Send a training to the other ranks.

    Args:
        world: the ranks.
        model: that is trained; of the architecture that the configuration names.
        config: of the training.
        epochs_done: epochs after which it resumes from the state in ``config.folder``.
    """
    validation, teacher = config.validation, config.teacher
    job = FitJob(
        images=_rows(config.images),
        # Without what a stage adds to these settings.
        settings=TrainingSettings(
            **{name: getattr(config.settings, name) for name in TrainingSettings.model_fields}
        ),
        ddp=config.ddp,
        height=config.height,
        width=config.width,
        seed=config.seed,
        label=config.label,
        validation=None
        if validation is None
        else ValidationJob(
            query=_rows(validation.data.query),
            gallery=_rows(validation.data.gallery),
            protocol=validation.data.protocol,
            has_cameras=validation.data.has_cameras,
            distance=validation.distance,
            batch_size=validation.batch_size,
        ),
        distillation=None if teacher is None else teacher.settings,
        hints=() if teacher is None else tuple(teacher.hints),
        dimensions=None if teacher is None else teacher.dimensions,
        accelerator=config.accelerator,
        strategy=config.strategy,
        devices=config.devices,
        num_nodes=config.num_nodes,
        workers=config.workers,
        epochs_done=epochs_done,
    )
    size = config.height, config.width
    content: dict[str, Any] = {"model": _model_bytes(model, config.architecture, size)}
    if teacher is not None and teacher.table is not None:
        content["table"] = teacher.table
    elif teacher is not None:
        content["teacher"] = _model_bytes(teacher.model, config.architecture, size)
        content["hints"] = list(teacher.hints.values())
    if epochs_done:
        content["state"] = _as_tensor((config.folder / LAST).read_bytes())
    world.send(_pack("fit", job, content))


def read_fit(
    content: dict[str, Any], world: World, folder: Path
) -> tuple[nn.Module, FitConfig, int]:
    """Read what :func:`send_fit` sent; the state to resume from is written into a folder.

    Returns:
        The model, the configuration, and the epochs after which the training resumes.
    """
    job = FitJob.model_validate_json(content["job"])
    teacher = None
    if "table" in content:
        assert job.distillation is not None, "a table has weights"
        teacher = Teacher(
            nn.Identity(), job.distillation, table=content["table"], dimensions=job.dimensions
        )
    elif job.distillation is not None:
        hints: dict[str, Tensor | None] = dict(zip(job.hints, content["hints"], strict=True))
        teacher = Teacher(_model(content["teacher"]), job.distillation, hints)
    validation = None
    if (given := job.validation) is not None:
        data = ReidData(
            Path(),
            (),
            _samples(given.query, world),
            _samples(given.gallery, world),
            given.protocol,
            given.has_cameras,
        )
        validation = Validation(data, given.distance, given.batch_size)
    if "state" in content:
        write_bytes(folder / LAST, content["state"].numpy().tobytes())
    config = FitConfig(
        images=_samples(job.images, world),
        settings=job.settings,
        ddp=job.ddp,
        height=job.height,
        width=job.width,
        seed=job.seed,
        folder=folder,
        label=job.label,
        validation=validation,
        teacher=teacher,
        accelerator=job.accelerator,
        strategy=job.strategy,
        devices=job.devices,
        num_nodes=job.num_nodes,
        workers=job.workers,
        world=world,
    )
    return _model(content["model"]), config, job.epochs_done


def send_job(
    world: World,
    kind: str,
    job: BaseModel,
    model: nn.Module,
    *,
    architecture: str,
    input_size: tuple[int, int],
) -> None:
    """Send a job to the other ranks, with the model that it is done with.

    Args:
        world: the ranks.
        kind: by which they know what to do, see :func:`reid_edge.training.serve.serve`.
        job: what it is done with beside the model.
        model: of the architecture; its widths may differ.
        architecture: its name.
        input_size: (height, width) of its images.
    """
    world.send(_pack(kind, job, {"model": _model_bytes(model, architecture, input_size)}))


def read_job(content: dict[str, Any], job: type[J]) -> tuple[nn.Module, J]:
    """Read what :func:`send_job` sent."""
    return _model(content["model"]), job.model_validate_json(content["job"])


def unpack(content: bytes) -> dict[str, Any]:
    """Read what rank zero sent: ``kind`` says what it is, ``threads`` how many it computes with."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return loaded


def _pack(kind: str, job: BaseModel, content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    # The order of a sum, and so its bits, may depend on the number of threads.
    shared = {"kind": kind, "threads": torch.get_num_threads()}
    torch.save({**shared, "job": json.dumps(job.model_dump(mode="json")), **content}, buffer)
    return buffer.getvalue()


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _model_bytes(model: nn.Module, architecture: str, input_size: tuple[int, int]) -> Tensor:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_checkpoint(path, model, describe(model, architecture, input_size=input_size))
        return _as_tensor(path.read_bytes())


def _model(content: Tensor) -> nn.Module:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        write_bytes(path, content.numpy().tobytes())
        return load_checkpoint(path)[0]


def _rows(images: Sequence[Sample]) -> tuple[Row, ...]:
    return tuple((str(image.path), image.person, image.camera) for image in images)


def _samples(rows: Sequence[Row], world: World) -> tuple[Sample, ...]:
    return tuple(
        Sample(world.local_path(Path(path)), person, camera) for path, person, camera in rows
    )
