"""Stage ``train``: the full-width model, from random or from given weights."""

from typing import Any

import torch

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.pretrained import load_start, log_start
from pipeline.stages.common import finish_model, train_model
from reid_edge.data.schema import count_persons
from reid_edge.models.registry import build_model


def run(context: StageContext) -> dict[str, Any]:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``; return the table's row."""
    settings, config = context.config.train, context.config
    torch.manual_seed(context.seed("weights"))
    model = build_model(
        config.model.architecture,
        num_classes=count_persons(context.data.train),
        embedding_dim=config.model.embedding_dim,
    )
    log_start(load_start(model, settings))
    train_model(context, model, settings)
    return finish_model(context, model, config.model.architecture, evaluate(model, context))
