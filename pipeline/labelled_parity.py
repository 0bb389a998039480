"""Judge the files of a run on its query and gallery: by the model's embeddings, and by accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.context import StageContext
from pipeline.judging import Judge, accuracy_loss
from pipeline.stage_accuracy import compare_with_teacher
from pipeline.stage_results import FileResult
from pipeline.stages.export import ExportStage
from quantize.parity import ParityLimits
from reid_edge.core.errors import ModelError
from reid_edge.inference.embedder import ImageEmbedder, embed_files
from reid_edge.inference.evaluation import evaluate_embeddings
from reid_edge.inference.thresholds import (
    EQUAL_ERROR,
    StoredThreshold,
    read_threshold,
    store_threshold,
)
from reid_edge.metrics.results import Evaluation


def embed_labelled(embedder: ImageEmbedder, context: StageContext[ExportStage]) -> Tensor:
    """Return a model's embeddings (N, D) of the queries and then of the gallery.

    Raises:
        ReidError: the model fails, or does not give embeddings.
    """
    data, settings = context.data, context.config.data
    images = [image.path for image in (*data.query, *data.gallery)]
    found = embed_files(
        embedder,
        images,
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
        progress=context.work(f"{context.stage}: measuring images with the model"),
    )
    return torch.from_numpy(found)


def make_judge(
    reference: Tensor, context: StageContext[ExportStage], architecture: str
) -> tuple[Judge, Evaluation]:
    """Return what judges the files of a run by its query and gallery, and the model's accuracy.

    A file that keeps to all limits gets its own EER threshold stored beside it. A threshold for a
    false accept rate that was stored with the same file stays.

    Args:
        reference: the embeddings (N, D) that the files are to give, of the queries and then of the
            gallery.
        context: of the stage.
        architecture: of the model.
    """
    data, settings, limits = context.data, context.config.data, context.settings.parity
    queries, gallery = ([image.path for image in part] for part in (data.query, data.gallery))

    def accuracy(embeddings: Tensor) -> Evaluation:
        if data.labels != "persons":
            return compare_with_teacher(context, embeddings)
        query, others = embeddings[: len(queries)], embeddings[len(queries) :]
        return evaluate_embeddings(query, others, data).result

    model = accuracy(reference)

    def measure(embedder: ImageEmbedder, embeddings: Tensor, row: FileResult) -> FileResult:
        found = accuracy(embeddings)
        loss = accuracy_loss(model, found, context.config.evaluation.task)
        problems = row.problems
        if not loss <= limits.loss:
            what = "accuracy" if found.label_free is None else "likeness to the teacher"
            problems = (*problems, f"{what} falls by {loss:.4f}, allowed {limits.loss:g}")
        threshold = None if problems else _store_threshold(embedder, found, context)
        return row.model_copy(
            update={"problems": problems, "loss": loss, "metrics": found, "threshold": threshold}
        )

    judge = Judge(
        queries=queries,
        gallery=gallery,
        reference=reference,
        architecture=architecture,
        input_size=context.input_size,
        float_limits=ParityLimits(
            limits.float_cosine, limits.float_cosine, limits.spread, limits.batch_difference
        ),
        int8_limits=ParityLimits(
            limits.int8_cosine, limits.int8_lowest_cosine, limits.spread, limits.batch_difference
        ),
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
        measure=measure,
        work=context.work,
    )
    return judge, model


def _store_threshold(
    embedder: ImageEmbedder, found: Evaluation, context: StageContext[ExportStage]
) -> float | None:
    """Store the file's EER threshold; one for a false accept rate of the same file stays."""
    verification = found.verification
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
