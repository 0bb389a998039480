"""What the stages that train have in common."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.context import StageContext
from pipeline.evaluation import headline
from pipeline.run_dir import CHECKPOINT, LAST_MODEL, METRICS
from reid_edge.core.cost import model_cost
from reid_edge.core.io import write_json
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import LAST, load_weights
from reid_edge.training.settings import TrainingSettings
from reid_edge.training.validation import Validation


def train_model(
    context: StageContext,
    model: nn.Module,
    settings: TrainingSettings,
    *,
    teacher: Teacher | None = None,
    folder: Path | None = None,
    label: str | None = None,
    purpose: tuple[int | str, ...] = (),
) -> None:
    """Train a model in place on the stage's images; resume after its last whole epoch.

    Args:
        context: of the stage.
        model: to be trained.
        settings: batches, losses, optimiser, schedule.
        teacher: the model to imitate, if any.
        folder: where the state after every epoch is kept, by default the stage's.
        label: names the training in the log, by default the stage's name.
        purpose: tells this training from others of the stage.
    """
    from reid_edge.training.fit import fit  # Lightning takes seconds to import

    config = context.config
    height, width = context.input_size
    validation = None
    if context.validation is not None:
        validation = Validation(
            context.validation,
            distance=config.evaluation.distance,
            batch_size=config.data.evaluation_batch,
        )
    fit(
        model,
        FitConfig(
            images=context.data.train,
            settings=settings,
            height=height,
            width=width,
            seed=context.seed("draws", *purpose),
            folder=folder or context.folder,
            label=label or context.stage,
            validation=validation,
            teacher=teacher,
            log=config.log,
            accelerator=context.device,
            devices=config.devices,
            workers=config.data.workers,
        ),
    )


def finish_model(
    context: StageContext, model: nn.Module, architecture: str, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Write ``checkpoint.pt`` and ``metrics.json`` and return the row of the closing table.

    Where the best epoch was chosen by validation, the last one's model is in ``last.pt``.
    """
    model.cpu().eval()
    accuracy = headline(metrics, context.config)
    info = describe(
        model,
        architecture,
        input_size=context.input_size,
        metrics=accuracy,
        parent_hash=context.parent_hash,
    )
    path = context.folder / CHECKPOINT
    save_checkpoint(path, model, info)
    if context.validation is not None and (context.folder / LAST).exists():
        # Of no use to a stage that follows, but to whoever doubts the choice of the best.
        last = copy.deepcopy(model)
        load_weights(last, context.folder / LAST)
        save_checkpoint(context.folder / LAST_MODEL, last, replace(info, metrics={}))
    write_json(context.folder / METRICS, metrics)
    cost = model_cost(model, context.example())
    return {
        "model": architecture,
        "file": f"{context.stage}/{CHECKPOINT}",
        "parameters": cost.parameters,
        "macs": cost.macs,
        "bytes": path.stat().st_size,
        "metrics": metrics,
    }
