"""The same query and gallery after every stage."""

import logging
from typing import Any, get_args

import torch

from pipeline.config import Config
from pipeline.context import StageContext
from reid.data.records import Picture
from reid.inference.features import Embed, embed_pictures
from reid.metrics import Distance, evaluate_ranking

logger = logging.getLogger(__name__)


def evaluate(model: Embed, context: StageContext, *, device: str | None = None) -> dict[str, Any]:
    """Rank the gallery for every query, with cosine and with Euclidean distance.

    Args:
        model: from pictures (N, 3, H, W) to embeddings (N, D).
        context: which pictures, at which size.
        device: where the model runs; by default where the stage trains.

    Returns:
        The metrics by distance, as plain data.
    """
    features = {
        name: _embed(model, pictures, context, device or context.device)
        for name, pictures in (("query", context.data.query), ("gallery", context.data.gallery))
    }
    query, gallery = _labels(context.data.query), _labels(context.data.gallery)
    return {
        distance: evaluate_ranking(
            features["query"],
            *query,
            features["gallery"],
            *gallery,
            distance=distance,
            protocol=context.data.protocol,
        ).to_dict()
        for distance in get_args(Distance)
    }


def _embed(
    model: Embed, pictures: tuple[Picture, ...], context: StageContext, device: str
) -> torch.Tensor:
    height, width = context.input_size
    settings = context.config.data
    return embed_pictures(
        model,
        pictures,
        height=height,
        width=width,
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
        device=device,
    )


def _labels(pictures: tuple[Picture, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    persons = torch.tensor([picture.person for picture in pictures])
    cameras = torch.tensor([picture.camera for picture in pictures])
    return persons, cameras


def headline(metrics: dict[str, Any], config: Config) -> dict[str, float]:
    """Return mAP and CMC 1/5/10 for the configured distance."""
    chosen = metrics[config.evaluation.distance]
    matching = chosen["cumulative_matching"]
    return {
        "mAP": chosen["mean_average_precision"],
        **{f"rank{rank}": matching[str(rank)] for rank in (1, 5, 10)},
    }
