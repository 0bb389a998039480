"""Stage ``finetune``: the compact model at a low rate, under the full-width model's eye."""

from typing import Any

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.run_dir import KEPT
from pipeline.stages.common import finish_model, train_model
from pipeline.stages.iteration import read_kept
from pipeline.widths import TRACE_SIZE
from prune.hints import hint_channels
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.training.distillation import Teacher


def run(context: StageContext) -> dict[str, Any]:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``; return the table's row."""
    settings = context.config.finetune
    model, info = context.load_parent()
    teacher = _teacher(context, model) if settings.teacher else None
    train_model(context, model, settings, teacher=teacher)
    return finish_model(context, model, info.architecture, evaluate(model, context))


def _teacher(context: StageContext, model: nn.Module) -> Teacher | None:
    """Return the full-width model, with hints where it is known which channels are left."""
    if context.teacher is None or context.parent is None:
        return None
    full_width, _ = load_checkpoint(context.teacher)
    kept = context.parent.parent / KEPT
    example = torch.zeros(1, 3, *TRACE_SIZE)
    hints = hint_channels(model, example, read_kept(kept)) if kept.exists() else {}
    return Teacher(full_width, context.config.finetune.distillation, hints)
