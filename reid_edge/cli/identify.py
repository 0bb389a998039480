"""``reid-edge identify``: who of the enrolled persons is on an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from reid_edge.cli.enrol import DEFAULT_INDEX
from reid_edge.cli.model_options import (
    add_loading_options,
    add_model_options,
    add_threshold_option,
    chosen_threshold_if_any,
    load_chosen_model,
    load_model_of_index,
)
from reid_edge.cli.progress_bars import progress_bars

UNKNOWN = "unknown"
NO_DECISION = "no decision"
HELP = "identify the enrolled person on an image, or on each image of a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--query", type=Path, required=True, metavar="PATH", help="an image, or a folder of images"
    )
    parser.add_argument(
        "--gallery-dir", type=Path, metavar="FOLDER",
        help="enrol the images of a folder first, as `enrol` does, into an index that is kept only "
        "if --index names it",
    )  # fmt: skip
    parser.add_argument(
        "--index", type=Path, metavar="FOLDER",
        help=f"folder of the index (default without --gallery-dir: {DEFAULT_INDEX})",
    )  # fmt: skip
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="K",
        help="persons to show for each image (default: 5)",
    )
    add_threshold_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)
    add_model_options(parser)
    parser.epilog = (
        "Without --weights the command uses the model that the index was made with, if it is still "
        "there, with the same input size and flip averaging. Without a threshold it shows the most "
        "similar persons and decides nothing."
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
    from reid_edge.inference.enrolment import enrol
    from reid_edge.inference.gallery import is_gallery, open_gallery
    from reid_edge.inference.recognition import check_count, identify, query_images
    from reid_edge.inference.thresholds import no_threshold

    check_count(options.top)  # before all images are embedded
    with TemporaryDirectory(prefix="reid-edge-") as temporary, progress_bars() as start:
        folder = options.gallery_dir
        index = options.index or (Path(temporary) / "index" if folder else DEFAULT_INDEX)
        is_new = folder is not None and not is_gallery(index)
        embedder = load_chosen_model(options) if is_new else load_model_of_index(options, index)
        threshold, origin = chosen_threshold_if_any(options, embedder) or (None, None)
        images = query_images(options.query)
        loading = {"batch_size": options.batch_size, "workers": options.workers}
        if folder is not None:
            enrol(embedder, folder, index, progress=start("enrolling"), **loading)
        gallery = open_gallery(index, embedder.space)
        embeddings = embed_files(embedder, images, progress=start("queries"), **loading)
    found = identify(gallery, embeddings, count=options.top, threshold=threshold)
    if options.json:
        results = [
            {"query": str(image), **result.to_dict()}
            for image, result in zip(images, found, strict=True)
        ]
        content = {"threshold": threshold, "threshold_from": origin, "results": results}
        print(json.dumps(content, indent=2))  # noqa: T201
        return 0
    if threshold is None:
        lines, nobody = [f"{NO_DECISION}: {no_threshold(embedder.path)}"], NO_DECISION
    else:
        lines, nobody = [f"threshold {threshold:.4f} ({origin})"], UNKNOWN
    for image, result in zip(images, found, strict=True):
        lines.append(f"{image}: {nobody if result.person is None else result.person}")
        for place, candidate in enumerate(result.candidates, start=1):
            lines.append(
                f"  {place}. {candidate.person}  {candidate.similarity:.4f}  {candidate.file}"
            )
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line, markup=False)
    return 0
