"""Stage ``train``: the full-width model, from random or from given weights."""

import logging
from typing import Any

import torch

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.stages.common import finish_model, train_model
from reid.data.records import count_persons
from reid.models.pretrained import load_pretrained
from reid.models.registry import build_model

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``; return the table's row."""
    settings, config = context.config.train, context.config
    torch.manual_seed(context.seed("weights"))
    model = build_model(
        config.model.architecture,
        num_classes=count_persons(context.data.train),
        embedding_dim=config.model.embedding_dim,
    )
    if settings.pretrained is not None:
        logger.info("train: %s", load_pretrained(model, settings.pretrained))
    train_model(context, model, settings)
    return finish_model(context, model, config.model.architecture, evaluate(model, context))
