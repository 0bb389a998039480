"""``reid-edge evaluate --teacher``: how like another model a model is, on images without labels."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from reid_edge.core.errors import DataError, ModelError

if TYPE_CHECKING:
    from reid_edge.cli.reading import Reading
    from reid_edge.core.progress import StartProgress
    from reid_edge.data.schema import ReidData
    from reid_edge.inference.embedder import ImageEmbedder
    from reid_edge.metrics.results import Evaluation

# What needs identities, by the option's name.
OTHERS = ("split", "protocol", "re_rank", "store_threshold")


def run(
    options: argparse.Namespace,
    embedder: ImageEmbedder,
    data: ReidData,
    reading: Reading,
    start: StartProgress,
) -> int:
    """Print the measures, and write ``metrics.json`` if asked for.

    Args:
        options: of ``reid-edge evaluate``.
        embedder: the model.
        data: images without identities; at most 5,000 of them count, evenly.
        reading: which data set they are read as.
        start: from the title of a piece of work to the function that reports on it.

    Returns:
        0.

    Raises:
        ReidError: an option needs identities, no teacher is named, there are fewer than 16 images,
            or the teacher or an image cannot be read.
    """
    import torch

    from reid_edge.core.io import write_bytes
    from reid_edge.data.held_out import FEWEST_HELD_OUT, MOST_HELD_OUT
    from reid_edge.inference.embedder import embed_files, load_embedder
    from reid_edge.inference.evaluation import METRICS
    from reid_edge.inference.label_free_evaluation import evaluate_without_identities
    from reid_edge.metrics.results import EvaluatedData, EvaluatedModel

    for name in OTHERS:
        if getattr(options, name):
            option = name.replace("_", "-")
            raise DataError(f"--{option} needs identities, and {data.root} has none; leave it out")
    if options.teacher is None:
        raise ModelError(
            f"{data.root}: the images have no identities, so that no accuracy can be measured; "
            "--teacher FILE measures how like that model the other one is"
        )
    if len(data.train) < FEWEST_HELD_OUT:
        raise DataError(
            f"{data.root}: has {len(data.train)} images, too few to compare the ten nearest ones; "
            f"take {FEWEST_HELD_OUT} or more"
        )
    teacher = load_embedder(options.teacher, device=options.device)
    step = -(-len(data.train) // MOST_HELD_OUT)
    images = [image.path for image in data.train[::step]]
    theirs, own = (
        torch.from_numpy(
            embed_files(
                model,
                images,
                batch_size=options.batch_size,
                workers=options.workers,
                progress=start(title),
            )
        )
        for title, model in (("teacher", teacher), ("model", embedder))
    )
    measured = evaluate_without_identities(
        theirs, own, replace(data, train=(), query=data.train[::step])
    )
    model = EvaluatedModel.model_validate(
        {
            "file": str(embedder.path),
            "description": embedder.description,
            **embedder.space.to_dict(),
        }
    )
    source = EvaluatedData.model_validate({"root": str(data.root), **reading.to_dict()})
    result = measured.model_copy(update={"model": model, "data": source})
    console = Console(soft_wrap=True, highlight=False, stderr=options.json)
    if options.json:
        print(result.to_json(), end="")  # noqa: T201
    else:
        for one, name in ((embedder, "model"), (teacher, "teacher")):
            height, width = one.space.input_size
            console.print(f"{name}: {one.path}: {one.description}, {height}x{width}", markup=False)
        console.print(f"{data.root}: {reading}, {len(images):,} images", markup=False)
        _show(console, result)
    if options.output is not None:
        try:
            write_bytes(options.output / METRICS, result.to_json().encode())
        except OSError as error:
            raise DataError(f"{options.output}: cannot be written ({error.strerror})") from error
        console.print(f"{METRICS} is in {options.output}", markup=False)
    return 0


def _show(console: Console, result: Evaluation) -> None:
    """Print a table of the measures."""
    from reid_edge.core.tables import FittingTable

    free, verification = result.label_free, result.verification
    assert free is not None, "measured without identities"
    rows = [
        ("top 10 as teacher, %", f"{100 * free.nearest_overlap:.2f}", "100"),
        ("same nearest, %", f"{100 * free.same_nearest:.2f}", "100"),
        ("rank correlation", f"{free.rank_correlation:.4f}", "1"),
    ]
    if free.mean_cosine is not None:
        rows.append(("mean cosine", f"{free.mean_cosine:.4f}", "1"))
        rows.append(("lowest cosine", f"{free.lowest_cosine:.4f}", "1"))
    rows.append(("variance", f"{free.spread:.4f}", f"{free.teacher_spread:.4f}"))
    if free.tracks is not None:
        own, theirs = (
            f"{100 * value:.2f}"
            for value in (
                free.tracks.mean_average_precision,
                free.tracks.teacher_mean_average_precision,
            )
        )
        rows.append(("track mAP, %", own, theirs))
    if verification is not None:
        rate, threshold = verification.equal_error_rate, verification.equal_error_threshold
        rows.append(("EER of tracks, %", f"{100 * rate:.2f} at {threshold:.4f}", ""))
    console.print(
        FittingTable(
            "",
            ["measure", "model", "teacher"],
            rows,
            caption="how like the teacher the model is; that says nothing of how well either tells "
            "people apart",
        )
    )
