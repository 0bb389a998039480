"""Stage ``resize``: the model as it is, tuned to another input size.

Every model here ends in a global pooling, so its weights fit any input size. Its BatchNorm
statistics and the scale of its filters do not, and are tuned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.stage import Stage
from reid_edge.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from pipeline.stage_results import StageResult


class ResizeStage(TrainingSettings):
    """Stage ``resize``: the model as it is, at another input size."""

    height: int = Field(128, ge=16, description="input height in pixels, for later stages too")
    width: int = Field(64, ge=16, description="input width in pixels, for later stages too")
    epochs: int = Field(8, ge=0, description="epochs at the new size")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak learning rate")


def run(context: StageContext[ResizeStage]) -> StageResult:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``."""
    from pipeline.found_images import FOUND
    from pipeline.stage_accuracy import evaluate_stage
    from pipeline.stages.common import finish_model, train_model

    model, info = context.load_parent()
    train_model(context, model, context.settings)
    metrics = evaluate_stage(model, context, found=context.folder / FOUND)
    return finish_model(context, model, info.architecture, metrics)


RESIZE: Stage[ResizeStage] = Stage(
    name="resize",
    summary="tune the model to another input size",
    settings=ResizeStage,
    run=run,
    model="changes",
    input_size=lambda settings: (settings.height, settings.width),
)
