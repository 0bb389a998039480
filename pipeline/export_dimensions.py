"""``reid-edge export --dims``: a smaller embedding without training, and what it costs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.export_images import Halves
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
    from reid_edge.data.schema import ReidData

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
    whole, images = reference.shape[1], len(halves.calibration)
    if not 1 <= options.dims < whole:
        raise QuantizeError(
            f"--dims {options.dims}: the embedding has {whole} dimensions; "
            f"expected 1 to {whole - 1}"
        )
    if images < options.dims:
        raise QuantizeError(
            f"--dims {options.dims}: needs as many images to fit them on, and half of --images are "
            f"{images}; give {2 * options.dims} images or more"
        )
    fitted = torch.from_numpy(embed_files(model.embedder, halves.calibration))
    data, labelled = _labelled(model, options) if options.data else (None, None)
    nearest = nearest_others(torch.nn.functional.normalize(reference.double()))
    sizes = {size for size in (*SIZES, options.dims) if size < whole and size <= images}
    costs = []
    for size in (whole, *sorted(sizes, reverse=True)):
        projection = None if size == whole else fit_projection(fitted, size, options.whiten)
        found = apply_projection(reference, projection)
        same, overlap = agreement_of_nearest(nearest, nearest_others(found))
        precision = None
        if data is not None and labelled is not None:
            projected, queries = apply_projection(labelled, projection), len(data.query)
            measured = evaluate_embeddings(projected[:queries], projected[queries:], data).result
            precision = measured.ranking["cosine"].mean_average_precision
        costs.append(
            DimensionCost(
                dimensions=size,
                same_nearest=same,
                nearest_overlap=overlap,
                mean_average_precision=precision,
            )
        )
    chosen = fit_projection(fitted, options.dims, options.whiten)
    return Smaller(chosen, apply_projection(reference, chosen).float(), tuple(costs))


def _labelled(model: ExportModel, options: argparse.Namespace) -> tuple[ReidData, Tensor]:
    """Return a data set, and the model's embeddings of its queries and then its gallery."""
    with progress_bars() as start:
        data, _ = read_as(options.name, options.data, start("extracting"))
        paths = [image.path for image in (*data.query, *data.gallery)]
        progress = start("query and gallery")
        return data, torch.from_numpy(embed_files(model.embedder, paths, progress=progress))
