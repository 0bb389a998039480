"""The widths that a configuration asks for, iteration by iteration."""

from pipeline.config import Config
from pipeline.errors import PipelineError
from prune.layers import layer_widths
from prune.widths import linear_plan
from reid.models.registry import build_model


def planned_widths(config: Config, num_classes: int = 2) -> list[dict[str, int]]:
    """Return the widths of every layer now and after each prune iteration.

    Args:
        config: all settings.
        num_classes: width of the classifier, which pruning leaves alone.

    Raises:
        PipelineError: the target is not a narrower form of the architecture.
        PruneError: the target is wider than the source, or K is below 1.
    """
    architecture, target = config.model.architecture, config.prune.target
    source, narrow = (
        build_model(name, num_classes=num_classes, embedding_dim=config.model.embedding_dim)
        for name in (architecture, target)
    )
    differing = sorted(set(source.state_dict()) ^ set(narrow.state_dict()))
    if differing:
        raise PipelineError(
            f"prune.target: {target} is no narrower {architecture}: {differing[0]!r} is in one of "
            "them only; choose a target of the same family"
        )
    widths = layer_widths(source)
    return [widths, *linear_plan(widths, layer_widths(narrow), config.prune.iterations)]
