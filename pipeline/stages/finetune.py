"""Stage ``finetune``: train the compact model at a low rate, with the full-width teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.results import StageResult
from pipeline.run_dir import KEPT
from pipeline.stage import Stage, Training, Upstream
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings

if TYPE_CHECKING:
    from torch import nn

    from pipeline.config import Config
    from pipeline.context import StageContext
    from reid_edge.training.distillation import Teacher


class FinetuneStage(TrainingSettings):
    """Stage ``finetune``: the compact model, longest."""

    epochs: int = Field(16, ge=0, description="epochs")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate")
    losses: LossSettings = LossSettings(cross_entropy=0.3, triplet=0.3)
    teacher: bool = Field(True, description="train with the full-width model as teacher")
    distillation: DistillationSettings = DistillationSettings()


def run(context: StageContext[FinetuneStage]) -> StageResult:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``."""
    from pipeline.evaluation import evaluate_stage
    from pipeline.stages.common import finish_model, train_model

    model, info = context.load_parent()
    teacher = _teacher(context, model) if context.settings.teacher else None
    train_model(context, model, context.settings, teacher=teacher)
    return finish_model(context, model, info.architecture, evaluate_stage(model, context))


def _teacher(context: StageContext[FinetuneStage], model: nn.Module) -> Teacher | None:
    """Return the full-width model as teacher; with hints if the kept channels are known."""
    import torch

    from pipeline.stages.iteration import read_kept
    from pipeline.widths import TRACE_SIZE
    from prune.hints import hint_channels
    from reid_edge.models.checkpoint import load_checkpoint
    from reid_edge.training.distillation import Teacher

    if context.teacher is None or context.parent is None:
        return None
    full_width, _ = load_checkpoint(context.teacher)
    kept = context.parent.parent / KEPT
    example = torch.zeros(1, 3, *TRACE_SIZE)
    hints = hint_channels(model, example, read_kept(kept)) if kept.exists() else {}
    return Teacher(full_width, context.settings.distillation, hints)


def _inputs(upstream: Upstream) -> dict[str, str]:
    outputs = {} if upstream.parent is None else upstream.parent.outputs
    return {"kept": outputs[KEPT]} if KEPT in outputs else {}


def _trainings(config: Config) -> list[Training]:
    settings, stages = config.of(FINETUNE), [config.declared[name] for name in config.stages]
    distillation = settings.distillation if settings.teacher else None
    makes_model = any(stage.model == "makes" for stage in stages)
    if distillation and makes_model and not any(stage.cuts for stage in stages):
        # Its model is the full-width one: there are no kept channels, so there are no hints.
        distillation = distillation.model_copy(update={"hints": 0.0})
    return [Training("finetune", settings, distillation)]


def _unused(config: Config) -> Iterator[str]:
    settings = config.of(FINETUNE)
    default = FinetuneStage.model_fields["distillation"].default
    if not settings.teacher and settings.distillation != default:
        yield "finetune.distillation: not used, finetune.teacher is false"


FINETUNE: Stage[FinetuneStage] = Stage(
    name="finetune",
    summary="train the compact model at a low rate, with the full-width model as teacher",
    settings=FinetuneStage,
    run=run,
    model="changes",
    default=True,
    teacher=True,
    inputs=_inputs,
    trainings=_trainings,
    unused=_unused,
)
