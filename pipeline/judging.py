"""Compare files with their model on images; labels are not needed.

The stage ``export`` adds its accuracy by ``Judge.measure``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from pipeline.stage_results import FileResult, main_value
from quantize.own_process import run_apart
from quantize.parity import (
    BATCH_SIZES,
    ParityLimits,
    batch_difference,
    compare,
    compare_among,
    violations,
)
from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import ModelError, ReidError, reason_of
from reid_edge.core.exporter import Exporter
from reid_edge.core.model_file import Backend, Embeddings, Images
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.inference.embedder import (
    EmbeddingSpace,
    ImageEmbedder,
    embed_batch,
    embed_files,
    load_embedder,
    prepare_image,
)
from reid_edge.metrics.results import Evaluation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedFile:
    """The embeddings that a model file gives for the images of a `Judge`.

    Attributes:
        space: of the file.
        description: of the file.
        embeddings: (N, D), of the queries and then of the gallery.
        batch_difference: see `quantize.parity.batch_difference`.
        latency_ms: median time of a call, or None if none was timed.
    """

    space: EmbeddingSpace
    description: str
    embeddings: Embeddings
    batch_difference: float
    latency_ms: float | None


@dataclass(frozen=True)
class Judge:
    """What files are judged by.

    Attributes:
        queries: image files.
        gallery: image files among which the nearest ones of each query are found; empty: those
            are found among the other queries.
        reference: the model's embeddings (N, D) of the queries and then of the gallery.
        architecture: of the model, or None.
        input_size: (height, width).
        float_limits: of float files.
        int8_limits: of int8 files.
        batch_size: images that go through a file together.
        workers: threads that decode images; 0: none.
        timed_calls: of each file, with as many images as it takes, or one; 0: none.
        measure: adds to the result of a file what labels tell, from a file's embeddings and the
            embedder that they are of (which cannot embed any more).
        work: begins a piece of work that is shown.
    """

    queries: Sequence[Path]
    gallery: Sequence[Path]
    reference: Tensor
    architecture: str | None
    input_size: tuple[int, int]
    float_limits: ParityLimits
    int8_limits: ParityLimits
    batch_size: int = 32
    workers: int = 0
    timed_calls: int = 0
    measure: Callable[[ImageEmbedder, Tensor, FileResult], FileResult] | None = None
    work: StartProgress = no_progress

    @property
    def images(self) -> list[Path]:
        """Return the queries and then the gallery."""
        return [*self.queries, *self.gallery]


def check_file(
    path: Path, judge: Judge, row: FileResult, exporter: Exporter | None = None
) -> FileResult:
    """Compare a file with its model.

    Args:
        path: of the file.
        judge: the images and the model's embeddings of them.
        row: what is known of the file; it says whether the limits for int8 files apply.
        exporter: that wrote the file, or None for a file of a registered backend.
    """
    logger.info("export: checking %s", path.name)
    size = sum(part.stat().st_size for part in model_file_parts(path) if part.is_file())
    row = row.model_copy(update={"bytes": size})
    if exporter is not None and exporter.unchecked:
        return row.model_copy(update={"note": f"not checked: {exporter.unchecked}"})
    backend = None if exporter is None else exporter.backend
    try:
        if exporter is not None and exporter.own_process:
            # A function of this process, such as ``measure``, cannot be sent to another one.
            sent = replace(judge, measure=None, work=no_progress, reference=torch.empty(0))
            limit = exporter.time_limit_s
            found = run_apart(embed_file, path, sent, backend, row.batch, time_limit_s=limit)
        else:
            found = embed_file(path, judge, backend, row.batch)
        embeddings = torch.from_numpy(found.embeddings)
        if judge.gallery:
            count = len(judge.queries)
            parity = compare(
                (judge.reference[:count], judge.reference[count:]),
                (embeddings[:count], embeddings[count:]),
                batch_difference=found.batch_difference,
            )
        else:
            parity = compare_among(
                judge.reference, embeddings, batch_difference=found.batch_difference
            )
    except MemoryError:
        raise
    except Exception as error:  # a runtime's too; the other files go on
        return row.model_copy(update={"problems": (problem_of(error, "cannot be run"),)})
    limits = judge.int8_limits if row.int8 else judge.float_limits
    problems = tuple(violations(parity, limits))
    row = row.model_copy(
        update={"problems": problems, "parity": parity, "latency_ms": found.latency_ms}
    )
    if judge.measure is None:
        return row
    embedder = ImageEmbedder(_embeds_no_more, found.space, found.description, path)
    return judge.measure(embedder, embeddings, row)


def embed_file(
    path: Path, judge: Judge, backend: Backend | None = None, batch: int | None = None
) -> EmbeddedFile:
    """Load a model file as its users load it, embed the images, and time calls.

    Raises:
        ReidError: the file cannot be loaded, fails, or does not give embeddings.
    """
    embedder = load_embedder(
        path, architecture=judge.architecture, input_size=judge.input_size, backend=backend
    )
    images = judge.images
    embeddings = embed_files(
        embedder,
        images,
        batch_size=judge.batch_size,
        workers=judge.workers,
        progress=judge.work(f"checking {path.name}"),
    )
    first = np.stack([prepare_image(image, embedder.space) for image in images[: max(BATCH_SIZES)]])
    difference = batch_difference(
        lambda batch: torch.from_numpy(embed_batch(embedder, batch.numpy())),
        torch.from_numpy(first),
    )
    return EmbeddedFile(
        embedder.space,
        embedder.description,
        embeddings,
        difference,
        _median_ms(embedder, first, batch or 1, judge.timed_calls),
    )


def _median_ms(embedder: ImageEmbedder, images: Images, batch: int, calls: int) -> float | None:
    """Return the median time of calls with a batch, after two that are not timed."""
    if not calls:
        return None
    given = images[np.arange(batch) % len(images)]
    times = []
    for number in range(2 + calls):
        start = time.perf_counter_ns()
        embed_batch(embedder, given)
        if number >= 2:
            times.append((time.perf_counter_ns() - start) / 1e6)
    return median(times)


def _embeds_no_more(_: object) -> Embeddings:
    raise ModelError("the file is not loaded any more")


def accuracy_loss(model: Evaluation, file: Evaluation, task: str) -> float:
    """Return how much mAP (for faces: EER) a file loses; it is negative if the file is better.

    Without identities it is how much less often than the model the file finds the ten nearest
    images of the teacher.

    The accuracy is that of cosine similarity, because not all files give unit-length embeddings.
    """
    labelled = model.label_free is None
    if labelled and task == "face" and model.verification and file.verification:
        return file.verification.equal_error_rate - model.verification.equal_error_rate
    before, after = (main_value(one, "person", "cosine") for one in (model, file))
    assert before is not None, "always measured"
    assert after is not None, "always measured"
    return before - after


def problem_of(error: Exception, what: str) -> str:
    """Return an error as a problem of a file, in one line."""
    logger.debug("a file %s", what, exc_info=error)
    return str(error) if isinstance(error, ReidError) else f"{what}: {reason_of(error)}"
