"""The teacher's embeddings: a set without identities is measured and drawn by them.

With ``teacher.cached`` compact models learn from them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.context import StageContext
    from reid_edge.data.schema import Sample

# Neighbours of an image that its batches are drawn from, as a multiple of those in a batch.
CHOICE = 3

logger = logging.getLogger(__name__)


class TeacherEmbeddings:
    """Embeddings of images by the teacher, each computed once a stage."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path | None, tuple[Path, ...]], Tensor] = {}

    def of(self, context: StageContext[Any], images: Sequence[Sample]) -> Tensor:
        """Return the embeddings (N, D) of images by the teacher, at its own input size.

        Raises:
            PipelineError: there is no full-width model.
            ReidError: an image cannot be read, or the model gives no embeddings.
        """
        from reid_edge.inference.features import embed_images
        from reid_edge.models.checkpoint import load_checkpoint

        key = context.teacher, tuple(image.path for image in images)
        if key in self._known:
            return self._known[key]
        from pipeline.teachers import teacher_embeddings

        given = teacher_embeddings(context, images)
        if given is not None:
            self._known[key] = given
            return given
        if context.teacher is None:
            raise PipelineError(
                f"{context.stage}: without identities, models are compared with the full-width "
                "one, and none is there that fits the settings; let the stage train run first"
            )
        model, info = load_checkpoint(context.teacher)
        height, width = info.input_size
        self._known[key] = embed_images(
            model,
            images,
            height=height,
            width=width,
            batch_size=context.config.data.evaluation_batch,
            workers=context.config.data.workers,
            device=context.device,
            progress=context.work(f"{context.stage}: images through the teacher"),
        )
        return self._known[key]


def batch_neighbours(
    context: StageContext[Any], images: Sequence[Sample], groups: int, images_of_group: int
) -> NDArray[np.int64] | None:
    """Return the places (N, M) of the neighbours of images, by which batches are drawn.

    The neighbours of an image are those that are nearest by the full-width model.

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
    if labels == "persons" or (labels == "tracks" and count_persons(images) >= groups):
        return None
    from reid_edge.metrics.label_free import nearest_others

    logger.info("%s: batches are drawn by the neighbours of %d images", context.stage, len(images))
    embeddings = context.teacher_embeddings.of(context, images)
    return nearest_others(embeddings, CHOICE * (images_of_group - 1)).numpy()
