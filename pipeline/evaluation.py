"""The same test images after every stage."""

from typing import Any

from torch import Tensor

from pipeline.config import Config
from pipeline.context import StageContext
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.evaluation import evaluate_embeddings
from reid_edge.inference.features import Embed, embed_images


def evaluate(model: Embed, context: StageContext, *, device: str | None = None) -> dict[str, Any]:
    """Rank the gallery for every query, and tell pairs of one person from pairs of two.

    Args:
        model: from images (N, 3, H, W) to embeddings (N, D).
        context: which images, at which size.
        device: where the model runs; by default where the stage trains.

    Returns:
        As plain data: ranking by "cosine" and "euclidean" distance, whether the data set
        "has_cameras", and "verification" by cosine similarity, None where the test images have
        no pairs of one of the two kinds.
    """
    features = {
        name: _embed(model, images, context, device or context.device)
        for name, images in (("query", context.data.query), ("gallery", context.data.gallery))
    }
    return measure(features["query"], features["gallery"], context.data)


def measure(query: Tensor, gallery: Tensor, data: ReidData) -> dict[str, Any]:
    """Measure the embeddings (N, D) of a data set's queries and gallery, as ``evaluate`` does."""
    result = evaluate_embeddings(query, gallery, data).result
    ranking: dict[str, Any] = {
        name: measured.to_dict() for name, measured in result.ranking.items()
    }
    verification = result.verification and {
        **result.verification.to_dict(),
        "pairs": result.pairs.which,
    }
    return {**ranking, "has_cameras": data.has_cameras, "verification": verification}


def _embed(model: Embed, images: tuple[Sample, ...], context: StageContext, device: str) -> Tensor:
    height, width = context.input_size
    settings = context.config.data
    return embed_images(
        model,
        images,
        height=height,
        width=width,
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
        device=device,
    )


def headline(metrics: dict[str, Any], config: Config) -> dict[str, float]:
    """Return mAP and CMC 1/5/10 for the configured distance, and EER where it was measured."""
    chosen = metrics[config.evaluation.distance]
    matching = chosen["cumulative_matching"]
    verification = metrics.get("verification")
    return {
        "mAP": chosen["mean_average_precision"],
        **{f"rank{rank}": matching[str(rank)] for rank in (1, 5, 10)},
        **({"EER": verification["equal_error_rate"]} if verification else {}),
    }
