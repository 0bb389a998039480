"""How well figures without labels predict mAP, over models that are like their teacher or not.

    python -m benchmarks.label_free --teacher osnet_x1_0_msmt17.pth --data CUHK03 --size 128,64 \
      --models runs/site/*/checkpoint.pt --damage 0.05,0.1,0.2

The figures are those of training images of a labelled data set, without their labels: of those that
a run without labels sets apart with the seed 0, at most 640. mAP is that of query and gallery.
`--damage` adds the teacher with noise on its weights, as a share of each layer's std.
"Stay" is the share of the ten nearest images that are the same among copies of all images in other
light and crop. The last line has Spearman's rank correlations with mAP.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.adaptation import accuracy, load_given
from benchmarks.command import at_least, decimal_numbers, logger, make_parser, size
from pipeline.command import run_guarded
from pipeline.run_images import TEST_SET
from pipeline.settings.data import DataSettings
from reid_edge.adaptation.judgement import directions
from reid_edge.adaptation.site_views import embed_changed
from reid_edge.adaptation.stability import MOST_IMAGES, evenly
from reid_edge.core.errors import PipelineError
from reid_edge.core.seeding import derive_seed
from reid_edge.data.held_out import hold_out
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.features import embed_images
from reid_edge.metrics.label_free import evaluate_label_free

TEACHER = "teacher"


@dataclass(frozen=True)
class Row:
    """What is measured of a model.

    Attributes:
        name: of the model.
        mean_average_precision: on query and gallery, with labels.
        figures: those without labels, by their name.
    """

    name: str
    mean_average_precision: float
    figures: dict[str, float]


def main(options: argparse.Namespace) -> None:
    """Measure each model, print the table and the correlations."""
    torch.set_num_threads(options.threads)
    teacher = load_given(options.teacher)
    models = {TEACHER: teacher}
    for path in options.models:
        name = "/".join(path.parts[-3:])
        if name in models:
            raise PipelineError(f"--models: two files are called {name}; rename a folder")
        models[name] = load_given(path)
    models |= {f"{TEACHER}, noise {share:g}": damaged(teacher, share) for share in options.damage}
    data = read_market1501(options.data)
    apart = set_apart(data)
    images = [apart[place] for place in evenly(len(apart), MOST_IMAGES)]
    height, width = options.size
    rows: list[Row] = []
    reference: Tensor | None = None
    for name, model in models.items():
        logger.info("label_free: %s", name)
        plain = embed_images(model, images, height=height, width=width)
        changed = embed_changed(model, images, height=height, width=width, seed=0)
        reference = plain if reference is None else reference
        rows.append(Row(name, accuracy(model, data, options), figures(reference, plain, changed)))
    Console(width=200).print(table(rows, f"{len(images):,} images, {height} x {width}"))


def set_apart(data: ReidData) -> Sequence[Sample]:
    """Return the training images that a run with the seed 0 and without labels does not learn from.

    Raises:
        DataError: there are too few.
    """
    images = tuple(replace(image, person=0, frame=None) for image in data.train)
    bare = replace(data, train=images, labels="none")
    return hold_out(bare, DataSettings().test_share, derive_seed(0, TEST_SET)).query


def figures(reference: Tensor, plain: Tensor, changed: Tensor) -> dict[str, float]:
    """Return the figures of a model without labels.

    Args:
        reference: the teacher's embeddings (N, D) of the images.
        plain: the model's embeddings of the images.
        changed: the model's embeddings of copies in another light and crop.
    """
    like = evaluate_label_free(reference, plain)
    return {
        "top 10 as teacher": like.nearest_overlap,
        "same nearest": like.same_nearest,
        "rank correlation": like.rank_correlation,
        "stay": evaluate_label_free(plain, changed).nearest_overlap,
        "spread": like.spread / like.teacher_spread,
        "directions": directions(plain),
    }


def damaged(model: nn.Module, share: float) -> nn.Module:
    """Return a copy with noise on the weights of its layers.

    Args:
        model: stays as it is.
        share: std of the noise, as a share of that of each layer's weights.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in other.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                noise = torch.randn(layer.weight.shape, generator=generator)
                layer.weight += share * layer.weight.std() * noise
    return other


def table(rows: list[Row], title: str) -> Table:
    """Return a line for each model, and the correlation of each figure with mAP."""
    shown = Table(title=title, title_justify="left")
    names = list(rows[0].figures)
    for heading in ("model", "mAP", *names):
        shown.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        shown.add_row(
            row.name,
            f"{row.mean_average_precision:.1%}",
            *(f"{row.figures[name]:.3f}" for name in names),
        )
    shown.add_section()
    shown.add_row(
        "rank correlation with mAP", "", *(f"{correlation(rows, name):.2f}" for name in names)
    )
    return shown


def correlation(rows: list[Row], figure: str) -> float:
    """Return Spearman's rank correlation of a figure with mAP over the models."""
    values = [row.figures[figure] for row in rows]
    return float(spearmanr(values, [row.mean_average_precision for row in rows]).statistic)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="checkpoint")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="checkpoints")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder in the Market-1501 layout, with labels"
    )
    parser.add_argument("--size", type=size, default=(128, 64), help="height,width")
    parser.add_argument("--damage", type=decimal_numbers, default=[])
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))
