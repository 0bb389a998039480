"""What the stages that train have in common."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.context import StageContext
from pipeline.run_dir import CHECKPOINT, IMAGE_CACHE, LAST_MODEL, METRICS
from pipeline.stage_results import ModelResult, StageResult, headline
from pipeline.teacher_embeddings import batch_neighbours
from reid_edge.core.cost import model_cost
from reid_edge.core.io import write_bytes
from reid_edge.metrics.results import Evaluation
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import LAST, load_weights
from reid_edge.training.settings import TrainingSettings
from reid_edge.training.validation import Validation


def train_model(
    context: StageContext[Any],
    model: nn.Module,
    settings: TrainingSettings,
    *,
    teacher: Teacher | None = None,
    folder: Path | None = None,
    label: str | None = None,
    purpose: tuple[int | str, ...] = (),
) -> None:
    """Train a model in place on the stage's images; an interrupted training is resumed.

    Args:
        context: of the stage.
        model: to be trained.
        settings: batches, losses, optimiser, schedule.
        teacher: the model to imitate, if any.
        folder: where the state after every epoch is written, by default the stage's folder.
        label: names the training in the log, by default the stage's name.
        purpose: distinguishes this training from others of the stage.
    """
    # Lightning takes seconds to import.
    from reid_edge.training.after_epoch import AfterEpoch, ShowBatches
    from reid_edge.training.fit import fit

    config, name = context.config, label or context.stage
    height, width = context.input_size
    neighbours = None
    if settings.epochs:
        neighbours = batch_neighbours(
            context,
            context.data.train,
            settings.identities_per_batch,
            settings.images_per_identity,
        )
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
            label=name,
            validation=validation,
            teacher=teacher,
            log=config.metric_files,
            accelerator=context.device,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=config.strategy,
            ddp=config.ddp,
            world=context.world,
            architecture=config.model.architecture,
            workers=config.data.workers,
            neighbours=neighbours,
            cache=context.folder.parent / IMAGE_CACHE if config.data.cache else None,
            # Processes that this one starts cannot be sent the functions, and would all write the
            # page.
            callbacks=[AfterEpoch(context.progress), ShowBatches(name, context.work)]
            if config.devices == 1 or context.world is not None
            else [],
        ),
    )


def finish_model(
    context: StageContext[Any], model: nn.Module, architecture: str, metrics: Evaluation
) -> StageResult:
    """Write ``checkpoint.pt`` and ``metrics.json`` and return the stage's result.

    If validation chose the best epoch, ``last.pt`` holds the model of the last epoch.
    """
    model.cpu().eval()
    info = describe(
        model,
        architecture,
        input_size=context.input_size,
        metrics=headline(metrics, context.config.evaluation.distance),
        parent_hash=context.parent_hash,
    )
    path = context.folder / CHECKPOINT
    save_checkpoint(path, model, info)
    if context.validation is not None and (context.folder / LAST).exists():
        # No later stage uses it; it lets users compare the last epoch with the best one.
        last = copy.deepcopy(model)
        load_weights(last, context.folder / LAST)
        save_checkpoint(context.folder / LAST_MODEL, last, replace(info, metrics={}))
    write_bytes(context.folder / METRICS, metrics.to_json().encode())
    cost = model_cost(model, context.example())
    return StageResult(
        model=ModelResult(
            name=architecture,
            file=f"{context.stage}/{CHECKPOINT}",
            parameters=cost.parameters,
            macs=cost.macs,
            bytes=path.stat().st_size,
            metrics=metrics,
        )
    )
