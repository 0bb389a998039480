"""The teacher's embeddings: a set without identities is measured and drawn by them.

With ``teacher.cached`` compact models learn from them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.context import StageContext
    from reid_edge.core.progress import Progress
    from reid_edge.data.schema import Sample

# Neighbours of an image that its batches are drawn from, as a multiple of those in a batch.
CHOICE = 3

logger = logging.getLogger(__name__)


class TeacherEmbeddings:
    """Embeddings of images by the teacher, each computed once for all stages of a run."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path | None, tuple[Path, ...]], Tensor] = {}

    def of(self, context: StageContext[Any], images: Sequence[Sample]) -> Tensor:
        """Return the embeddings (N, D) of images by the teacher, at its own input size.

        Raises:
            PipelineError: there is no full-width model.
            ReidError: an image cannot be read, or the model gives no embeddings.
        """
        key = context.teacher, tuple(image.path for image in images)
        if key not in self._known:
            self._known[key] = _find(context, images)
        return self._known[key]


def _find(context: StageContext[Any], images: Sequence[Sample]) -> Tensor:
    """Read the embeddings from a table or from the run's folder, or compute and keep them."""
    from pipeline.model_hash import TABLE_SUFFIX
    from pipeline.teacher_cache import cache_file, read_cached, write_cached
    from pipeline.teachers import embed_by_file, read_table

    named = context.config.teacher.file
    if named is not None and named.suffix == TABLE_SUFFIX:
        return read_table(named, context.data.root, images)
    teacher = named or context.teacher
    if teacher is None:
        raise PipelineError(
            f"{context.stage}: without identities, models are compared with the full-width "
            "one, and none is there that fits the settings; let the stage train run first"
        )
    kept = cache_file(context, teacher, images)
    cached = read_cached(kept)
    if cached is not None:
        return cached
    progress = context.work(f"{context.stage}: images through the teacher")
    if named is not None:
        embeddings = embed_by_file(context, images, progress)
    else:
        embeddings = _embed_by_full_width(context, teacher, images, progress)
    write_cached(kept, embeddings)
    return embeddings


def _embed_by_full_width(
    context: StageContext[Any], teacher: Path, images: Sequence[Sample], progress: Progress
) -> Tensor:
    from reid_edge.inference.features import embed_images
    from reid_edge.models.checkpoint import load_checkpoint

    model, info = load_checkpoint(teacher)
    height, width = info.input_size
    return embed_images(
        model,
        images,
        height=height,
        width=width,
        batch_size=context.config.data.evaluation_batch,
        workers=context.config.data.workers,
        device=context.device,
        progress=progress,
    )


def batch_neighbours(
    context: StageContext[Any], images: Sequence[Sample], groups: int, images_of_group: int
) -> NDArray[np.int64] | None:
    """Return the places (N, M) of the neighbours of images, by which batches are drawn.

    The neighbours of an image are those that are nearest by the full-width model. With K of 1 there
    are none, so an epoch draws nearly every image once.

    Args:
        context: of the stage.
        images: to train on.
        groups: of a batch, P.
        images_of_group: K.

    Returns:
        None where batches are drawn by identity, or by track.
    """
    from reid_edge.data.schema import count_persons

    labels = context.data.labels
    if labels == "persons":
        return None
    if images_of_group == 1:
        return np.empty((len(images), 0), dtype=np.int64)
    if labels == "tracks" and count_persons(images) >= groups:
        return None
    from reid_edge.metrics.label_free import nearest_others

    logger.info("%s: batches are drawn by the neighbours of %d images", context.stage, len(images))
    embeddings = context.teacher_embeddings.of(context, images)
    return nearest_others(embeddings, CHOICE * (images_of_group - 1)).numpy()
