"""Compare an exported file with its model on query and gallery."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.context import StageContext
from pipeline.stage_results import FileResult
from pipeline.stages.export import ExportStage
from quantize.parity import BATCH_SIZES, ParityLimits, batch_difference, compare, violations
from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import ModelError, QuantizeError, ReidError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.inference.embedder import Embedder, embed_files, load_embedder, prepare_image
from reid_edge.inference.evaluation import evaluate_embeddings
from reid_edge.inference.thresholds import (
    EQUAL_ERROR,
    StoredThreshold,
    read_threshold,
    store_threshold,
)
from reid_edge.metrics.results import Evaluation

REJECTED = "rejected-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """The embeddings that a model file gives for the test images.

    Attributes:
        architecture: of the model.
        query: embeddings (Q, D).
        gallery: embeddings (G, D).
        metrics: accuracy of them.
    """

    architecture: str
    query: Tensor
    gallery: Tensor
    metrics: Evaluation


def embed_test_images(
    path: Path, context: StageContext[ExportStage], architecture: str
) -> tuple[Embedder, Embedded]:
    """Load a model file as its users load it, and embed query and gallery.

    Raises:
        ReidError: the file cannot be loaded, fails, or does not give embeddings.
    """
    embedder = load_embedder(path, architecture=architecture, input_size=context.input_size)
    data, settings = context.data, context.config.data
    embeddings = torch.from_numpy(
        embed_files(
            embedder,
            [image.path for image in (*data.query, *data.gallery)],
            batch_size=settings.evaluation_batch,
            workers=settings.workers,
        )
    )
    query, gallery = embeddings[: len(data.query)], embeddings[len(data.query) :]
    return embedder, Embedded(
        architecture, query, gallery, evaluate_embeddings(query, gallery, data).result
    )


def write_checked(
    exporter: Exporter,
    source: ExportSource,
    context: StageContext[ExportStage],
    model: Embedded,
) -> FileResult:
    """Write a file, compare it with its model, and rename it if it differs."""
    path = context.folder / exporter.file_name(source)
    row = FileResult(
        name=path.name, bytes=0, int8=exporter.int8, timed=exporter.timed, exporter=exporter.name,
        meant_for=exporter.meant_for,
    )  # fmt: skip
    try:
        exporter.write(source, path)
    except QuantizeError as error:
        return row.model_copy(update={"problems": (str(error),)})
    row = check_file(path, context, model, row)
    kept = reject(path) if row.problems else path
    return row.model_copy(update={"path": f"{context.stage}/{kept.name}"})


def check_file(
    path: Path, context: StageContext[ExportStage], model: Embedded, row: FileResult
) -> FileResult:
    """Compare a file with its model, and store its own EER threshold beside it if all is well.

    A threshold for a false accept rate that was stored with the same file stays.

    Args:
        path: of the file.
        context: of the stage.
        model: the model's embeddings of the test images.
        row: what is known of the file; it says whether the limits for int8 files apply.
    """
    logger.info("%s: checking %s", context.stage, path.name)
    settings = context.settings.parity
    size = sum(part.stat().st_size for part in model_file_parts(path))
    row = row.model_copy(update={"bytes": size})
    try:
        embedder, found = embed_test_images(path, context, model.architecture)
        first = (*context.data.query, *context.data.gallery)[: max(BATCH_SIZES)]
        prepared = np.stack([prepare_image(image.path, embedder.space) for image in first])
        parity = compare(
            (model.query, model.gallery),
            (found.query, found.gallery),
            batch_difference=batch_difference(
                lambda batch: torch.from_numpy(embedder.embed(batch.numpy())),
                torch.from_numpy(prepared),
            ),
        )
    except ReidError as error:
        return row.model_copy(update={"problems": (str(error),)})
    loss = accuracy_loss(model.metrics, found.metrics, context.config.evaluation.task)
    limits = ParityLimits(
        mean_cosine=settings.int8_cosine if row.int8 else settings.float_cosine,
        lowest_cosine=settings.int8_lowest_cosine if row.int8 else settings.float_cosine,
        spread=settings.spread,
        batch_difference=settings.batch_difference,
    )
    problems = violations(parity, limits)
    if not loss <= settings.loss:
        problems.append(f"accuracy falls by {loss:.4f}, allowed {settings.loss:g}")
    threshold = None if problems else _store_threshold(embedder, found, context)
    return row.model_copy(
        update={
            "problems": tuple(problems),
            "parity": parity,
            "loss": loss,
            "metrics": found.metrics,
            "threshold": threshold,
        }
    )


def accuracy_loss(model: Evaluation, file: Evaluation, task: str) -> float:
    """Return how much mAP (for faces: EER) a file loses; it is negative if the file is better.

    The accuracy is that of cosine similarity, because not all files give unit-length embeddings.
    """
    if task == "face" and model.verification and file.verification:
        return file.verification.equal_error_rate - model.verification.equal_error_rate
    before, after = (one.ranking["cosine"].mean_average_precision for one in (model, file))
    return before - after


def reject(path: Path) -> Path:
    """Rename a file that failed, so that nobody uses it by mistake; return its new path."""
    kept, *_ = [
        part.replace(part.with_name(REJECTED + part.name)) for part in model_file_parts(path)
    ]
    return kept


def _store_threshold(
    embedder: Embedder, found: Embedded, context: StageContext[ExportStage]
) -> float | None:
    """Store the file's EER threshold; one for a false accept rate of the same file stays."""
    verification = found.metrics.verification
    if verification is None:
        return None
    threshold = StoredThreshold(
        threshold=verification.equal_error_threshold,
        target=EQUAL_ERROR,
        measured_on=context.data.root.resolve().name,
        genuine_pairs=verification.genuine_pairs,
        impostor_pairs=verification.impostor_pairs,
    )
    try:
        has_one_for_a_rate = read_threshold(embedder).target != EQUAL_ERROR
    except ModelError:
        has_one_for_a_rate = False
    if not has_one_for_a_rate:
        store_threshold(embedder, threshold)
    return threshold.threshold
