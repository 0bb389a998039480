"""The same images after every stage: query and gallery, or those set apart without identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pipeline.found_images import write_found_images
from reid_edge.inference.evaluation import evaluate_embeddings
from reid_edge.inference.features import Embed, embed_images
from reid_edge.inference.label_free_evaluation import evaluate_without_identities
from reid_edge.metrics.results import Evaluation

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.context import StageContext
    from reid_edge.data.schema import Sample


def evaluate_stage(
    model: Embed,
    context: StageContext[Any],
    *,
    device: str | None = None,
    title: str | None = None,
    may_collapse: bool = False,
    found: Path | None = None,
) -> Evaluation:
    """Rank the gallery for every query, and compare pairs of one person with pairs of two.

    Without identities, the model is compared with the teacher on the images set apart; the
    full-width model with itself, where it is the teacher.

    Args:
        model: from images (N, 3, H, W) to embeddings (N, D).
        context: which images, at which size.
        device: where the model runs; by default where the stage trains.
        title: of this work on the display; by default the stage's name.
        may_collapse: measure even if all persons have the same embedding.
        found: where to write what each query finds, for the images of the page; none: nowhere.

    Raises:
        ModelError: all persons have the same embedding. Or, without identities, all images have
            under the teacher.
        PipelineError: without identities, there is no teacher.
    """
    height, width = context.input_size
    settings = context.config.data
    count = len(context.data.query) + len(context.data.gallery)
    report = context.work(f"{title or context.stage}: measuring images")
    # The other processes can build a model of an architecture, and no other function.
    known = device is None and isinstance(getattr(model, "classifier", None), nn.Module)
    run = embed_images if context.world is None or not known else _embed_together(context)

    def embed(images: Sequence[Sample], before: int) -> Tensor:
        return run(
            model,
            images,
            height=height,
            width=width,
            batch_size=settings.evaluation_batch,
            workers=settings.workers,
            device=device or context.device,
            progress=lambda done, _: report(before + done, count),
        )

    query = embed(context.data.query, 0)
    if context.data.labels != "persons":
        return compare_with_teacher(context, query, may_collapse=may_collapse)
    gallery = embed(context.data.gallery, len(context.data.query))
    evaluation = evaluate_embeddings(
        query,
        gallery,
        context.data,
        may_collapse=may_collapse,
        each_query=found is not None,
    )
    if found is not None:
        write_found_images(found, context.data, evaluation)
    return evaluation.result


def _embed_together(context: StageContext[Any]) -> Callable[..., Tensor]:
    """Return the function that shares a model's images out over the processes of a run."""
    from reid_edge.training.shared_embedding import embed_together

    assert context.world is not None, "asked for with several processes alone"
    return partial(embed_together, context.world, context.config.model.architecture)


def compare_with_teacher(
    context: StageContext[Any], embeddings: Tensor, *, may_collapse: bool = False
) -> Evaluation:
    """Compare embeddings of the images set apart with those of the teacher.

    Args:
        context: of the stage.
        embeddings: of ``context.data.query``, shape (N, D).
        may_collapse: see `evaluate_stage`.

    Raises:
        ModelError: see there.
        PipelineError: see there.
    """
    makes_teacher = (
        context.config.declared[context.stage].model == "makes"
        and context.config.teacher.file is None
    )
    teacher = (
        embeddings if makes_teacher else context.teacher_embeddings.of(context, context.data.query)
    )
    return evaluate_without_identities(teacher, embeddings, context.data, may_collapse=may_collapse)
