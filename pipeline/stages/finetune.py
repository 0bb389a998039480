"""Stage ``finetune``: the compact model at a low rate, under the full-width model's eye."""

from typing import Any

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.stages.common import finish_model
from reid.models.checkpoint import load_checkpoint
from reid.training.distillation import Teacher
from reid.training.fit import fit


def run(context: StageContext) -> dict[str, Any]:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``; return the table's row."""
    settings = context.config.finetune
    model, info = context.load_parent()
    teacher = None
    if settings.teacher and context.teacher is not None:
        teacher = Teacher(load_checkpoint(context.teacher)[0], settings.distillation)
    height, width = context.input_size
    fit(
        model,
        context.data.train,
        settings,
        height=height,
        width=width,
        seed=context.seed("draws"),
        folder=context.folder,
        label="finetune",
        workers=context.config.data.workers,
        accelerator=context.device,
        teacher=teacher,
    )
    return finish_model(context, model, info.architecture, evaluate(model, context))
