"""``reid-edge embed``: the embeddings of a folder of any size, into files."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from reid_edge.cli.model_options import add_loading_options, add_model_options, load_chosen_model
from reid_edge.cli.progress_bars import progress_bars

HELP = "write the embeddings of all images in a folder, of any number, into .npy files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="images, and folders with images at any depth"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER",
        help="folder of the files; after an interruption the same command goes on there",
    )  # fmt: skip
    parser.add_argument(
        "--shard-size", type=int, default=8192, metavar="N",
        help="embeddings in a file, which are in memory at a time (default: 8192)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)
    add_model_options(parser)
    parser.epilog = (
        "Started by torchrun or srun, each process makes its share of the files; see "
        "docs/guide/scale.md."
    )


def run(options: argparse.Namespace) -> int:
    """Print what was embedded.

    Returns:
        0.

    Raises:
        ReidError: the model or an image cannot be read, or the output is of another model.
    """
    from reid_edge.inference.embedded_folder import embed_folder
    from reid_edge.training.launchers import rank_and_size

    share = rank_and_size()
    embedder = load_chosen_model(options)
    with progress_bars() as start:
        result = embed_folder(
            embedder,
            options.folder,
            options.output,
            shard_size=options.shard_size,
            batch_size=options.batch_size,
            workers=options.workers,
            share=share,
            progress=start("embedding"),
        )
    if options.json:
        print(json.dumps({**asdict(result), "output": str(options.output)}))  # noqa: T201
        return 0
    whose = f"process {share[0] + 1} of {share[1]}: " if share[1] > 1 else ""
    state = "all are there" if result.complete else "other processes make the rest"
    Console(soft_wrap=True, highlight=False).print(
        f"{options.output}: {whose}{result.images:,} images embedded, {result.known:,} were there "
        f"already; {result.shards:,} files, {state}",
        markup=False,
    )
    return 0
