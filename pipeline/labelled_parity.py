"""Judge the files of a run on its query and gallery: by the model's embeddings, and by accuracy."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipeline.context import StageContext
from pipeline.file_parity import Judge, accuracy_loss
from pipeline.stage_results import FileResult
from pipeline.stages.export import ExportStage
from quantize.parity import ParityLimits
from reid_edge.core.errors import ModelError
from reid_edge.inference.embedder import Embedder, embed_files, load_embedder
from reid_edge.inference.evaluation import evaluate_embeddings
from reid_edge.inference.thresholds import (
    EQUAL_ERROR,
    StoredThreshold,
    read_threshold,
    store_threshold,
)
from reid_edge.metrics.results import Evaluation


def make_judge(
    path: Path, context: StageContext[ExportStage], architecture: str
) -> tuple[Judge, Evaluation]:
    """Embed query and gallery with the model; return what judges its files, and its accuracy.

    A file that keeps to all limits gets its own EER threshold stored beside it. A threshold for a
    false accept rate that was stored with the same file stays.

    Args:
        path: of the model's checkpoint.
        context: of the stage.
        architecture: of the model.

    Raises:
        ReidError: the model cannot be loaded, fails, or does not give embeddings.
    """
    data, settings, limits = context.data, context.config.data, context.settings.parity
    queries, gallery = ([image.path for image in part] for part in (data.query, data.gallery))
    reference = torch.from_numpy(
        embed_files(
            load_embedder(path, architecture=architecture, input_size=context.input_size),
            [*queries, *gallery],
            batch_size=settings.evaluation_batch,
            workers=settings.workers,
            progress=context.work(f"{context.stage}: measuring images with the model"),
        )
    )

    def accuracy(embeddings: Tensor) -> Evaluation:
        query, others = embeddings[: len(queries)], embeddings[len(queries) :]
        return evaluate_embeddings(query, others, data).result

    model = accuracy(reference)

    def measure(embedder: Embedder, embeddings: Tensor, row: FileResult) -> FileResult:
        found = accuracy(embeddings)
        loss = accuracy_loss(model, found, context.config.evaluation.task)
        problems = row.problems
        if not loss <= limits.loss:
            problems = (*problems, f"accuracy falls by {loss:.4f}, allowed {limits.loss:g}")
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
    embedder: Embedder, found: Evaluation, context: StageContext[ExportStage]
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
