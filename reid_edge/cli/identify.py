"""``reid-edge identify``: who of the enrolled persons is on an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reid_edge.cli.enrol import add_index_option
from reid_edge.cli.model_options import (
    add_loading_options,
    add_model_options,
    add_threshold_option,
    chosen_threshold_if_any,
    load_model_of_index,
)
from reid_edge.cli.progress_bars import progress_bars

if TYPE_CHECKING:
    from reid_edge.inference.identify import Identification

UNKNOWN = "unknown"
NO_VERDICT = "no verdict"
HELP = "say who of the enrolled persons is on an image, or on each image of a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--query", type=Path, required=True, metavar="PATH", help="an image, or a folder of some"
    )
    add_index_option(parser)
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="persons to show for each (default: 5)"
    )
    add_threshold_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)
    add_model_options(parser)
    parser.epilog = (
        "Without --weights it is the model that the index was made with, if it is still there, and "
        "images are brought to it in the same way. Without a threshold the most similar persons "
        "are shown, and nobody is named."
    )


def run(options: argparse.Namespace) -> int:
    """Print who is on each image; without a threshold, who is most similar.

    Returns:
        0.

    Raises:
        ReidError: the model, the index or an image cannot be read, or the index or the stored
            threshold is another model's.
    """
    from reid_edge.inference.embedder import embed_files
    from reid_edge.inference.gallery_folder import open_gallery
    from reid_edge.inference.identify import check_count, identify, query_images
    from reid_edge.inference.thresholds import no_threshold

    check_count(options.top)  # before all images are embedded
    embedder = load_model_of_index(options, options.index)
    gallery = open_gallery(options.index, embedder.space)
    threshold, origin = chosen_threshold_if_any(options, embedder) or (None, None)
    images = query_images(options.query)
    with progress_bars() as start:
        embeddings = embed_files(
            embedder,
            images,
            batch_size=options.batch_size,
            workers=options.workers,
            progress=start("queries"),
        )
    found = identify(gallery, embeddings, count=options.top, threshold=threshold)
    if options.json:
        results = [
            {"query": str(image), **result.to_dict()}
            for image, result in zip(images, found, strict=True)
        ]
        record = {"threshold": threshold, "threshold_from": origin, "results": results}
        print(json.dumps(record, indent=2))  # noqa: T201
        return 0
    console = Console(soft_wrap=True, highlight=False)
    if threshold is None:
        heading, nobody = f"{NO_VERDICT}: {no_threshold(embedder.path)}", NO_VERDICT
    else:
        heading, nobody = f"threshold {threshold:.4f} ({origin})", UNKNOWN
    console.print(heading, markup=False)
    for image, result in zip(images, found, strict=True):
        _show(console, image, result, nobody)
    return 0


def _show(console: Console, image: Path, result: Identification, nobody: str) -> None:
    verdict = nobody if result.person is None else result.person
    console.print(f"{image}: {verdict}", markup=False)
    for place, candidate in enumerate(result.candidates, start=1):
        console.print(
            f"  {place}. {candidate.person}  {candidate.similarity:.4f}  {candidate.file}",
            markup=False,
        )
