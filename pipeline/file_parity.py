"""An exported file beside the model that it was made of, on query and gallery."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.context import StageContext
from pipeline.evaluation import measure
from pipeline.settings.export import ParitySettings
from quantize.parity import BATCH_SIZES, Parity, ParityLimits, batch_difference, compare, violations
from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import ModelError, ReidError
from reid_edge.inference.embedder import Embedder, embed_files, load_embedder, prepare_image
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


@dataclass(frozen=True)
class ExportedFile:
    """A file of the stage ``export``, compared with the model: a row of ``parity.json``.

    Attributes:
        name: of the file.
        bytes: of all its parts.
        int8: whether the limits of int8 files hold.
        problems: what the file does not keep to, in a few words each; empty if all is well.
        parity: the comparison, if there was one.
        loss: of accuracy.
        metrics: what ``pipeline.evaluation.measure`` says of the file.
        threshold: the file's own EER threshold, if all is well and it could be measured.
        exporter: that wrote it.
        meant_for: the machine that it is for.
        path: where it is, below the run's folder.
        file: the same for a file that is to be benchmarked.
    """

    name: str
    bytes: int
    int8: bool
    problems: tuple[str, ...] = ()
    parity: Parity | None = None
    loss: float | None = None
    metrics: dict[str, Any] | None = None
    threshold: float | None = None
    exporter: str = ""
    meant_for: str = ""
    path: str | None = None
    file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as what JSON can hold; what was not measured is left out."""
        row = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        if self.parity is not None and not self.problems:
            row["threshold"] = self.threshold
        return row | {"problems": list(self.problems)}


def embed_test_images(
    path: Path, context: StageContext, architecture: str
) -> tuple[Embedder, Embedded]:
    """Load a model file as its users will, and embed query and gallery.

    Raises:
        ReidError: it cannot be loaded, fails, or gives what is no embedding.
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
    return embedder, Embedded(architecture, query, gallery, measure(query, gallery, data))


def check_file(
    path: Path, context: StageContext, model: Embedded, row: ExportedFile
) -> ExportedFile:
    """Compare a file with its model, and store its own EER threshold beside it if all is well.

    A threshold for a false accept rate that was stored with the same file stays.

    Args:
        path: of the file.
        context: of the stage.
        model: what the model makes of the test images.
        row: what is known of the file; it says whether the limits of int8 files hold.
    """
    logger.info("%s: checking %s", context.stage, path.name)
    settings = context.config.export.parity
    size = sum(part.stat().st_size for part in model_file_parts(path))
    row = replace(row, bytes=size)
    try:
        embedder, found = embed_test_images(path, context, model.architecture)
        parity = compare(
            (model.query, model.gallery),
            (found.query, found.gallery),
            batch_difference=batch_difference(
                lambda batch: torch.from_numpy(embedder.embed(batch.numpy())),
                _first_images(embedder, context),
            ),
        )
    except ReidError as error:
        return replace(row, problems=(str(error),))
    loss = accuracy_loss(model.metrics, found.metrics, context.config.evaluation.task)
    problems = violations(parity, _limits(settings, int8=row.int8))
    if not loss <= settings.loss:
        problems.append(f"accuracy falls by {loss:.4f}, allowed {settings.loss:g}")
    return replace(
        row,
        problems=tuple(problems),
        parity=parity,
        loss=loss,
        metrics=found.metrics,
        threshold=None if problems else _store_threshold(embedder, found, context),
    )


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
    prepared = [prepare_image(image.path, embedder.space) for image in images]
    return torch.from_numpy(np.stack(prepared))


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
