"""Sections ``train``, ``finetune`` and ``resize``: the stages that only train."""

from pydantic import Field

from pipeline.settings.base import FilePath
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings


class TrainStage(TrainingSettings):
    """Stage ``train``: the full-width model."""

    pretrained: FilePath | None = Field(
        None,
        description="weights to start from; what is behind the backbone may be missing, with "
        "epochs 0 the classifier alone",
    )


class FinetuneStage(TrainingSettings):
    """Stage ``finetune``: the compact model, longest."""

    epochs: int = Field(16, ge=0, description="epochs")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak rate")
    losses: LossSettings = LossSettings(cross_entropy=0.3, triplet=0.3)
    teacher: bool = Field(True, description="imitate the full-width model's embeddings")
    distillation: DistillationSettings = DistillationSettings()


class ResizeStage(TrainingSettings):
    """Stage ``resize``: the model as it is, at another input size."""

    height: int = Field(128, ge=16, description="input rows from here on")
    width: int = Field(64, ge=16, description="input columns from here on")
    epochs: int = Field(8, ge=0, description="epochs at the new size")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak rate")
