"""A smaller embedding without training, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.export_images import MOST_OF_A_HALF, Halves
from pipeline.export_model import ExportModel
from pipeline.stage_results import DimensionCost
from quantize.parity import agreement_of_nearest, nearest_others
from quantize.projection import apply_projection, fit_projection
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.cli.reading import read_as
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Projection
from reid_edge.inference.embedder import embed_files
from reid_edge.inference.evaluation import evaluate_embeddings

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from pipeline.stages.export import ExportStage
    from reid_edge.data.schema import ReidData
    from reid_edge.inference.embedder import ImageEmbedder

# The table has these beside the one that is asked for.
SIZES = (512, 256, 128, 64)


@dataclass(frozen=True)
class Smaller:
    """A smaller embedding.

    Attributes:
        projection: from the model's embedding.
        reference: of the judging images, (N, dims), of unit length.
        costs: of this and other numbers of dimensions, the whole embedding first.
    """

    projection: Projection
    reference: Tensor
    costs: tuple[DimensionCost, ...]


def make_smaller(
    model: ExportModel, reference: Tensor, halves: Halves, options: argparse.Namespace
) -> Smaller:
    """Fit a smaller embedding on one half of the images, and measure it on the other.

    Args:
        model: that is made smaller.
        reference: its embeddings (N, D) of the judging images.
        halves: the images.
        options: dims, whiten, data, name.

    Raises:
        QuantizeError: the embedding has no more dimensions, or there are fewer images.
        DataError: the data set cannot be read.
    """
    images = len(halves.calibration)
    check_dims(options.dims, reference.shape[1], "--dims")
    if images < options.dims:
        raise QuantizeError(
            f"--dims {options.dims}: needs as many images to fit them on, and half of --images are "
            f"{images}; give {2 * options.dims} images or more"
        )
    fitted = torch.from_numpy(embed_files(model.embedder, halves.calibration))
    precision = None
    if options.data:
        data, labelled = _labelled(model, options)

        def precision(projection: Projection | None) -> float:
            found, queries = apply_projection(labelled, projection), len(data.query)
            measured = evaluate_embeddings(found[:queries], found[queries:], data).result
            return measured.ranking["cosine"].mean_average_precision

    return smaller_embedding(fitted, reference, options.dims, options.whiten, precision)


def smaller_of_run(
    embedder: ImageEmbedder, reference: Tensor, context: StageContext[ExportStage], dims: int
) -> Smaller:
    """Fit a smaller embedding on training images, and measure it on query and gallery.

    Args:
        embedder: of the model.
        reference: its embeddings (N, D) of the queries and then of the gallery.
        context: of the stage ``export``.
        dims: dimensions of the smaller embedding.

    Raises:
        QuantizeError: the embedding has no more dimensions, or there are fewer training images.
    """
    settings, data = context.config.data, context.data
    check_dims(dims, reference.shape[1], "export.dims")
    drawn = context.training_sample(MOST_OF_A_HALF, "project")
    if len(drawn) < dims:
        raise QuantizeError(
            f"export.dims {dims}: needs as many training images to fit them on, and there are "
            f"{len(drawn)}; lower it"
        )
    fitted = embed_files(
        embedder,
        [image.path for image in drawn],
        batch_size=settings.evaluation_batch,
        workers=settings.workers,
    )

    def precision(projection: Projection | None) -> float:
        found, queries = apply_projection(reference, projection), len(data.query)
        measured = evaluate_embeddings(found[:queries], found[queries:], data).result
        return measured.ranking["cosine"].mean_average_precision

    whiten = context.settings.whiten
    measured = precision if data.labels == "persons" else None
    return smaller_embedding(torch.from_numpy(fitted), reference, dims, whiten, measured)


def check_dims(dims: int, whole: int, option: str) -> None:
    """Check that an embedding can become so small.

    Raises:
        QuantizeError: it has no more dimensions; the message names the option.
    """
    if not 1 <= dims < whole:
        raise QuantizeError(
            f"{option} {dims}: the embedding has {whole} dimensions; expected 1 to {whole - 1}"
        )


def smaller_embedding(
    fitted: Tensor,
    reference: Tensor,
    dims: int,
    whiten: bool,
    precision: Callable[[Projection | None], float] | None,
) -> Smaller:
    """Fit a smaller embedding, and measure what it and other sizes cost.

    Args:
        fitted: embeddings (N, D) of the images that it is fitted on.
        reference: embeddings (M, D) of others, that it is measured on.
        dims: of the smaller embedding.
        whiten: give all directions the same variance.
        precision: gives the mAP of projected embeddings, where labels tell it.
    """
    whole, images = reference.shape[1], len(fitted)
    nearest = nearest_others(torch.nn.functional.normalize(reference.double()))
    sizes = {size for size in (*SIZES, dims) if size < whole and size <= images}
    costs = []
    for size in (whole, *sorted(sizes, reverse=True)):
        projection = None if size == whole else fit_projection(fitted, size, whiten)
        found = apply_projection(reference, projection)
        same, overlap = agreement_of_nearest(nearest, nearest_others(found))
        costs.append(
            DimensionCost(
                dimensions=size,
                same_nearest=same,
                nearest_overlap=overlap,
                mean_average_precision=None if precision is None else precision(projection),
            )
        )
    chosen = fit_projection(fitted, dims, whiten)
    return Smaller(chosen, apply_projection(reference, chosen).float(), tuple(costs))


def _labelled(model: ExportModel, options: argparse.Namespace) -> tuple[ReidData, Tensor]:
    """Return a data set, and the model's embeddings of its queries and then its gallery."""
    with progress_bars() as start:
        data, _ = read_as(options.name, options.data, start("extracting"))
        paths = [image.path for image in (*data.query, *data.gallery)]
        progress = start("query and gallery")
        return data, torch.from_numpy(embed_files(model.embedder, paths, progress=progress))
