"""Stage ``resize``: the model as it is, tuned to another input size.

Every model here ends in a global pooling, so that its weights fit any size; the statistics and
the scale of what the filters see do not.
"""

from typing import Any

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.stages.common import finish_model, train_model


def run(context: StageContext) -> dict[str, Any]:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``; return the table's row."""
    model, info = context.load_parent()
    train_model(context, model, context.config.resize)
    return finish_model(context, model, info.architecture, evaluate(model, context))
