"""Stage ``finetune``: train the compact model at a low rate, with the full-width teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.run_dir import KEPT
from pipeline.stage import Stage
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from pipeline.stage_results import StageResult


class FinetuneStage(TrainingSettings):
    """Stage ``finetune``: the compact model, longest."""

    epochs: int = Field(16, ge=0, description="epochs")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate")
    losses: LossSettings = LossSettings(cross_entropy=0.3, triplet=0.3)
    teacher: bool = Field(True, description="train with the full-width model as teacher")
    distillation: DistillationSettings = DistillationSettings()


def run(context: StageContext[FinetuneStage]) -> StageResult:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``."""
    import torch

    from pipeline.found_images import FOUND
    from pipeline.stage_accuracy import evaluate_stage
    from pipeline.stages.common import finish_model, train_model
    from pipeline.stages.iteration import read_kept
    from pipeline.target_widths import TRACE_SIZE
    from pipeline.teachers import load_teacher
    from prune.hints import hint_channels

    assert context.parent is not None, "finetune was planned without a parent"
    model, info = context.load_parent()
    teacher = None
    if context.settings.teacher:
        kept, example = context.parent.parent / KEPT, torch.zeros(1, 3, *TRACE_SIZE)
        hints = hint_channels(model, example, read_kept(kept)) if kept.exists() else {}
        teacher = load_teacher(context, context.settings.distillation, hints)
    train_model(context, model, context.settings, teacher=teacher)
    metrics = evaluate_stage(model, context, found=context.folder / FOUND)
    return finish_model(context, model, info.architecture, metrics)


FINETUNE: Stage[FinetuneStage] = Stage(
    name="finetune",
    summary="train the compact model at a low rate, with the full-width model as teacher",
    settings=FinetuneStage,
    run=run,
    model="changes",
    default=True,
    teacher=True,
    inputs=lambda upstream: (
        {"kept": upstream.parent.outputs[KEPT]}
        if upstream.parent is not None and KEPT in upstream.parent.outputs
        else {}
    ),
)
