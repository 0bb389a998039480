"""The input of a stage: settings, data, models, seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from pipeline.config import Config
from pipeline.stage_results import StageRecord
from pipeline.teacher_embeddings import TeacherEmbeddings
from reid_edge.core.devices import choose_device
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.core.seeding import derive_seed
from reid_edge.data.schema import ReidData, Sample, choose_over_cameras

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reid_edge.models.checkpoint_info import CheckpointInfo
    from reid_edge.training.world import World

S_co = TypeVar("S_co", bound=BaseModel, covariant=True)

BATCH = 64


@dataclass(frozen=True)
class StageContext(Generic[S_co]):
    """Everything a stage may use.

    Attributes:
        stage: its name.
        config: all settings.
        settings: its own section of them.
        folder: where it writes.
        data: the images.
        parent: checkpoint of the model it starts from, if there is one.
        teacher: checkpoint of the full-width model, if there is one.
        parent_hash: of the parent's file, or empty.
        input_size: (height, width) of the stage's model.
        validation: identities apart from those to train on, if there are any.
        made: records of the earlier stages that fit the settings, by stage.
        progress: is to be called when the stage has left something for the page of the run.
        work: begins a piece of work, and returns what reports on it to the display of the run.
        world: the processes that train together, if another program started them; this is the first
            of them.
        teacher_embeddings: embeddings by the teacher, where they are cached or there are no
            identities.
    """

    stage: str
    config: Config
    settings: S_co
    folder: Path
    data: ReidData
    parent: Path | None
    teacher: Path | None
    parent_hash: str
    input_size: tuple[int, int]
    validation: ReidData | None = None
    made: Mapping[str, StageRecord] = field(default_factory=dict)
    progress: Callable[[], None] = lambda: None
    work: StartProgress = no_progress
    world: World | None = None
    teacher_embeddings: TeacherEmbeddings = field(default_factory=TeacherEmbeddings, compare=False)

    @property
    def device(self) -> str:
        """Return "cuda" or "cpu"."""
        return choose_device(self.config.device)

    def seed(self, *parts: int | str) -> int:
        """Return a seed that depends on the run's seed, the stage and the given names."""
        return derive_seed(self.config.seed, self.stage, *parts)

    def load_parent(self) -> tuple[nn.Module, CheckpointInfo]:
        """Load the model that the stage starts from."""
        from reid_edge.models.checkpoint import load_checkpoint

        assert self.parent is not None, f"{self.stage} was planned without a parent"
        return load_checkpoint(self.parent)

    def example(self, batch: int = 1) -> Tensor:
        """Return zeros of the input's shape (batch, 3, H, W)."""
        import torch

        return torch.zeros(batch, 3, *self.input_size)

    def training_batches(self, count: int, *purpose: int | str) -> list[Tensor]:
        """Draw training images evenly over the cameras, in batches (N, 3, H, W)."""
        return self.batches(self.training_sample(count, *purpose))

    def batches(self, chosen: Sequence[Sample]) -> list[Tensor]:
        """Load images into batches (N, 3, H, W), in order."""
        import torch

        from reid_edge.data.loaders import stack_images

        height, width = self.input_size
        images = stack_images(chosen, height=height, width=width)
        # Batches of nearly the same size: no last one of a single image.
        return list(torch.tensor_split(images, math.ceil(len(images) / BATCH)))

    def training_sample(self, count: int, *purpose: int | str) -> list[Sample]:
        """Draw training images evenly over the cameras."""
        return choose_over_cameras(self.data.train, count, self.seed(*purpose))
