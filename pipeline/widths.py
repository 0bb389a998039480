"""The widths that a configuration asks for, iteration by iteration."""

from pipeline.config import Config, StageName
from pipeline.errors import PipelineError
from prune.layers import layer_widths
from prune.widths import linear_plan
from reid.models.registry import build_model

CUTTING_STAGES: tuple[StageName, ...] = ("transfer", "prune")


def cutting_stage(config: Config) -> StageName | None:
    """Return the requested stage that takes the model to its target's widths, if there is one."""
    return next((stage for stage in config.stages if stage in CUTTING_STAGES), None)


def target_of(config: Config) -> str:
    """Return the architecture that the requested stages end at."""
    stage = cutting_stage(config)
    if stage is None:
        return config.model.architecture
    return config.transfer.target if stage == "transfer" else config.prune.target


def planned_widths(config: Config, stage: str, num_classes: int = 2) -> list[dict[str, int]]:
    """Return the widths of every layer now and after each cut of a stage.

    Args:
        config: all settings.
        stage: "transfer" or "prune".
        num_classes: width of the classifier, which pruning leaves alone.

    Raises:
        PipelineError: the target is not a narrower form of the architecture.
        PruneError: the target is wider than the source, or K is below 1.
    """
    settings = config.transfer if stage == "transfer" else config.prune
    iterations = config.prune.iterations if stage == "prune" else 1
    architecture, target = config.model.architecture, settings.target
    source, narrow = (
        build_model(name, num_classes=num_classes, embedding_dim=config.model.embedding_dim)
        for name in (architecture, target)
    )
    differing = sorted(set(source.state_dict()) ^ set(narrow.state_dict()))
    if differing:
        raise PipelineError(
            f"{stage}.target: {target} is no narrower {architecture}: {differing[0]!r} is in one "
            "of them only; choose a target of the same family"
        )
    widths = layer_widths(source)
    return [widths, *linear_plan(widths, layer_widths(narrow), iterations)]
