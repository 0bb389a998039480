"""Stage ``transfer``: the most important channels go into the target at once, then training."""

from typing import Any

from pipeline.context import StageContext
from pipeline.stages.prune import cut_to_target


def run(context: StageContext) -> dict[str, Any]:
    """Cut once to the target's widths, train, evaluate; return the row of the closing table."""
    return cut_to_target(context, context.config.transfer)
