"""The widths that a configuration asks for, iteration by iteration."""

from pipeline.config import Config
from prune.layers import layer_widths
from prune.widths import linear_plan
from reid.models.registry import build_model


def planned_widths(config: Config, num_classes: int = 2) -> list[dict[str, int]]:
    """Return the widths of every layer now and after each prune iteration.

    Args:
        config: all settings.
        num_classes: width of the classifier, which pruning leaves alone.

    Raises:
        PruneError: the target is wider than the source, or K is below 1.
    """
    names = config.model.architecture, config.prune.target
    source, target = (
        layer_widths(
            build_model(name, num_classes=num_classes, embedding_dim=config.model.embedding_dim)
        )
        for name in names
    )
    return [source, *linear_plan(source, target, config.prune.iterations)]
