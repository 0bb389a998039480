"""The same test images after every stage."""

from typing import Any, get_args

from torch import Tensor

from pipeline.config import Config
from pipeline.context import StageContext
from reid_edge.data.schema import ReidData, Sample, label_tensors
from reid_edge.inference.features import Embed, embed_images
from reid_edge.inference.verification_pairs import describe_pairs, verification_pairs
from reid_edge.metrics import Distance, evaluate_ranking, evaluate_verification


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
    query_labels, gallery_labels = label_tensors(data.query), label_tensors(data.gallery)
    ranking = {
        distance: evaluate_ranking(
            query,
            *query_labels,
            gallery,
            *gallery_labels,
            distance=distance,
            protocol=data.protocol,
        ).to_dict()
        for distance in get_args(Distance)
    }
    verification = _verify(data, query, gallery)
    return ranking | {"has_cameras": data.has_cameras, "verification": verification}


def _verify(data: ReidData, query: Tensor, gallery: Tensor) -> dict[str, object] | None:
    pairs = verification_pairs(data, query, gallery)
    if pairs.missing is not None:
        return None
    result = evaluate_verification(pairs.scores, pairs.same)
    return {**result.to_dict(), "pairs": describe_pairs(data)}


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
