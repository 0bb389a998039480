"""``reid-edge enrol``: images of named persons into an index."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from reid_edge.cli.model_options import (
    add_loading_options,
    add_model_options,
    load_chosen_model,
    load_model_of_index,
)
from reid_edge.cli.progress_bars import progress_bars

HELP = "append images of named persons to an index, or create one"
DEFAULT_INDEX = Path("gallery_index")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--gallery-dir", type=Path, required=True, metavar="FOLDER",
        help="a folder for each person, or images with Market-1501 names, or images named after "
        "persons",
    )  # fmt: skip
    add_index_option(parser)
    parser.add_argument(
        "--kind", metavar="KIND",
        help="kind of a new index: flat (exact, the default), hnsw, or ivf",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)
    add_model_options(parser)
    parser.epilog = (
        "Without --weights an existing index continues with the model that it was made with."
    )


def add_index_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the index is."""
    parser.add_argument(
        "--index", type=Path, default=DEFAULT_INDEX, metavar="FOLDER",
        help=f"folder of the index (default: {DEFAULT_INDEX})",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print what was enrolled.

    Returns:
        0.

    Raises:
        ReidError: the model or an image cannot be read, or the index is another model's.
    """
    from reid_edge.inference.enrolment import enrol
    from reid_edge.inference.gallery import is_gallery

    exists = is_gallery(options.index)
    embedder = load_model_of_index(options, options.index) if exists else load_chosen_model(options)
    with progress_bars() as start:
        result = enrol(
            embedder,
            options.gallery_dir,
            options.index,
            kind=options.kind,
            batch_size=options.batch_size,
            workers=options.workers,
            progress=start("enrolling"),
        )
    if options.json:
        print(json.dumps({**asdict(result), "index": str(options.index)}))  # noqa: T201
        return 0
    Console(soft_wrap=True, highlight=False).print(
        f"{options.index}: {result.added} images enrolled, {result.known} were there already; "
        f"now {result.images} images of {result.persons} persons, {result.kind} index",
        markup=False,
    )
    return 0
