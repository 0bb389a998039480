"""Settings that say something which another one makes void."""

from collections.abc import Iterator

from pipeline.config import Config
from pipeline.settings.cut import CutSettings, PruneStage
from pipeline.settings.train import FinetuneStage
from reid_edge.training.settings import TrainingSettings


def unused_in_training(key: str, settings: TrainingSettings) -> Iterator[str]:
    """Yield a line for each setting of a training that has no effect.

    Args:
        key: of the training's settings.
        settings: themselves.
    """
    if settings.milestones and settings.schedule != "step":
        yield f"{key}.milestones: not used, {key}.schedule is {settings.schedule}"
    elif settings.epochs and any(epoch >= settings.epochs for epoch in settings.milestones):
        yield f"{key}.milestones: some are never reached, {key}.epochs is {settings.epochs}"
    if settings.epochs and settings.frozen_epochs >= settings.epochs:
        yield f"{key}.frozen_epochs: the layers never learn, {key}.epochs is {settings.epochs}"
    if settings.frozen_layers and not settings.frozen_epochs:
        yield f"{key}.frozen_layers: not used, {key}.frozen_epochs is 0"


def unused_in_stages(config: Config) -> Iterator[str]:
    """Yield a line for each setting of the requested stages that has no effect."""
    for stage in ("transfer", "prune", "finetune"):
        if stage in config.stages:
            yield from _without_teacher(stage, getattr(config, stage))
    prune = config.prune
    extra_tuning = prune.extra_tuning != _default(PruneStage, "extra_tuning")
    if "prune" in config.stages and extra_tuning and prune.accuracy_budget is None:
        yield "prune.extra_tuning: not used, prune.accuracy_budget is not given"


def _without_teacher(stage: str, settings: CutSettings | FinetuneStage) -> Iterator[str]:
    default = _default(type(settings), "distillation")
    if not settings.teacher and settings.distillation != default:
        yield f"{stage}.distillation: not used, {stage}.teacher is false"


def _default(section: type[CutSettings | FinetuneStage], name: str) -> object:
    return section.model_fields[name].default
