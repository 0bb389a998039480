"""Stage ``resize``: the model as it is, tuned to another input size.

Every model here ends in a global pooling, so its weights fit any input size. Its BatchNorm
statistics and the scale of its filters do not, and are tuned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.stage import JsonDict, Stage
from reid_edge.core.errors import PipelineError
from reid_edge.training.settings import DistillationSettings, TrainingSettings

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.stage_results import StageResult


class ResizeStage(TrainingSettings):
    """Stage ``resize``: the model as it is, at another input size."""

    height: int = Field(128, ge=16, description="input height in pixels, for later stages too")
    width: int = Field(64, ge=16, description="input width in pixels, for later stages too")
    epochs: int = Field(8, ge=0, description="epochs at the new size")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak learning rate")
    teacher: bool = Field(
        False,
        description="train with the full-width model as teacher, which sees the images at its own "
        "input size",
    )
    distillation: DistillationSettings = DistillationSettings(hints=0.0)


def run(context: StageContext[ResizeStage]) -> StageResult:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``."""
    from pipeline.found_images import FOUND
    from pipeline.stage_accuracy import evaluate_stage
    from pipeline.stages.common import finish_model, train_model
    from pipeline.teachers import load_teacher

    model, info = context.load_parent()
    teacher = None
    if context.settings.teacher:
        teacher = load_teacher(context, context.settings.distillation)
    train_model(context, model, context.settings, teacher=teacher)
    metrics = evaluate_stage(model, context, found=context.folder / FOUND)
    return finish_model(context, model, info.architecture, metrics)


def _check(config: Config) -> None:
    if config.of(RESIZE).teacher and config.ranks > 1:
        raise PipelineError("resize.teacher: is for one process; give devices=1, or teacher=false")


def _counted(config: Config) -> JsonDict:
    """Return its settings; those of a teacher count where there is one."""
    settings = config.of(RESIZE)
    without = set() if settings.teacher else {"teacher", "distillation"}
    return {"resize": settings.model_dump(mode="json", exclude=without)}


RESIZE: Stage[ResizeStage] = Stage(
    name="resize",
    summary="tune the model to another input size",
    settings=ResizeStage,
    run=run,
    model="changes",
    teacher=lambda settings: settings.teacher,
    input_size=lambda settings: (settings.height, settings.width),
    counted=_counted,
    check=_check,
)
