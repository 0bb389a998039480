"""An exported file beside the model that it was made of, on query and gallery."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.context import StageContext
from pipeline.evaluation import measure
from pipeline.settings.export import ParitySettings
from quantize.parity import BATCH_SIZES, ParityLimits, batch_difference, compare, violations
from reid_edge.core.errors import ModelError, ReidError
from reid_edge.inference.backends.base import model_file_parts
from reid_edge.inference.embedder import Embedder, PreparedImages, embed_files
from reid_edge.inference.model_files import load_embedder
from reid_edge.inference.thresholds import (
    EQUAL_ERROR,
    StoredThreshold,
    read_threshold,
    store_threshold,
)

REJECTED = "rejected-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """What a model file makes of the test images.

    Attributes:
        architecture: of the model.
        query: embeddings (Q, D).
        gallery: embeddings (G, D).
        metrics: what ``pipeline.evaluation.measure`` says of them.
    """

    architecture: str
    query: Tensor
    gallery: Tensor
    metrics: dict[str, Any]


def embed_test_images(
    path: Path, context: StageContext, architecture: str
) -> tuple[Embedder, Embedded]:
    """Load a model file as its users will, and embed query and gallery.

    Raises:
        ReidError: it cannot be loaded, fails, or gives what is no embedding.
    """
    embedder = load_embedder(path, architecture=architecture, input_size=context.input_size)
    data, settings = context.data, context.config.data
    embeddings = embed_files(
        embedder,
        [image.path for image in (*data.query, *data.gallery)],
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
    )
    query, gallery = embeddings[: len(data.query)], embeddings[len(data.query) :]
    return embedder, Embedded(architecture, query, gallery, measure(query, gallery, data))


def check_file(path: Path, context: StageContext, model: Embedded, *, int8: bool) -> dict[str, Any]:
    """Compare a file with its model, and store its own EER threshold beside it if all is well.

    A threshold for a false accept rate that was stored with the same file stays.

    Args:
        path: of the file.
        context: of the stage.
        model: what the model makes of the test images.
        int8: whether the limits of int8 files hold.

    Returns:
        A row of the report as plain data; ``problems`` says in a few words each what the file does
        not keep to, and is empty if all is well.
    """
    logger.info("%s: checking %s", context.stage, path.name)
    settings = context.config.export.parity
    row: dict[str, Any] = {
        "name": path.name,
        "bytes": sum(part.stat().st_size for part in model_file_parts(path)),
        "int8": int8,
    }
    try:
        embedder, found = embed_test_images(path, context, model.architecture)
        parity = compare(
            (model.query, model.gallery),
            (found.query, found.gallery),
            batch_difference=batch_difference(embedder.embed, _first_images(embedder, context)),
        )
    except ReidError as error:
        return {**row, "problems": [str(error)]}
    loss = accuracy_loss(model.metrics, found.metrics, context.config.evaluation.task)
    problems = violations(parity, _limits(settings, int8=int8))
    if not loss <= settings.loss:
        problems.append(f"accuracy falls by {loss:.4f}, allowed {settings.loss:g}")
    row |= {"parity": parity.to_dict(), "loss": loss, "metrics": found.metrics}
    if not problems:
        row["threshold"] = _store_threshold(embedder, found, context)
    return {**row, "problems": problems}


def accuracy_loss(model: dict[str, Any], file: dict[str, Any], task: str) -> float:
    """Return how much mAP, or with faces EER, a file loses; below zero where it gains.

    By cosine similarity, for the embeddings of some files are of unit length and of others not.
    """
    if task == "face" and model["verification"] and file["verification"]:
        rates = (each["verification"]["equal_error_rate"] for each in (file, model))
    else:
        rates = (each["cosine"]["mean_average_precision"] for each in (model, file))
    before, after = rates
    return float(before - after)


def reject(path: Path) -> Path:
    """Give a file that failed a name that nobody takes for a good one; return where it lies."""
    kept, *_ = [
        part.replace(part.with_name(REJECTED + part.name)) for part in model_file_parts(path)
    ]
    return kept


def _limits(settings: ParitySettings, *, int8: bool) -> ParityLimits:
    return ParityLimits(
        mean_cosine=settings.int8_cosine if int8 else settings.float_cosine,
        lowest_cosine=settings.int8_lowest_cosine if int8 else settings.float_cosine,
        spread=settings.spread,
        batch_difference=settings.batch_difference,
    )


def _first_images(embedder: Embedder, context: StageContext) -> Tensor:
    images = (*context.data.query, *context.data.gallery)[: max(BATCH_SIZES)]
    prepared = PreparedImages([image.path for image in images], embedder)
    return torch.stack([prepared[index] for index in range(len(prepared))])


def _store_threshold(embedder: Embedder, found: Embedded, context: StageContext) -> float | None:
    verification = found.metrics["verification"]
    if verification is None:
        return None
    threshold = StoredThreshold(
        threshold=verification["equal_error_threshold"],
        target=EQUAL_ERROR,
        measured_on=context.data.root.resolve().name,
        genuine_pairs=verification["genuine_pairs"],
        impostor_pairs=verification["impostor_pairs"],
    )
    if not _has_one_for_a_rate(embedder):
        store_threshold(embedder, threshold)
    return threshold.threshold


def _has_one_for_a_rate(embedder: Embedder) -> bool:
    """Say whether somebody stored a threshold for a false accept rate with this very file."""
    try:
        return read_threshold(embedder).target != EQUAL_ERROR
    except ModelError:
        return False
