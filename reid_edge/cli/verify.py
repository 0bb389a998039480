"""``reid-edge verify``: are two images of the same person?"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from reid_edge.cli.model_options import (
    add_model_options,
    add_threshold_option,
    chosen_threshold,
    load_chosen_model,
)

HELP = "decide by a threshold whether two images show the same person"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for name in ("--img1", "--img2"):
        parser.add_argument(name, type=Path, required=True, metavar="FILE", help="an image")
    add_threshold_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_model_options(parser)
    parser.epilog = "Exit code: 0 for both decisions, 2 if there is none."


def run(options: argparse.Namespace) -> int:
    """Print similarity, threshold and decision.

    Returns:
        0.

    Raises:
        ReidError: the model or an image cannot be read, or there is no threshold.
    """
    from reid_edge.inference.recognition import verify

    embedder = load_chosen_model(options)
    threshold, origin = chosen_threshold(options, embedder)
    result = verify(embedder, options.img1, options.img2, threshold)
    if options.json:
        print(json.dumps({**asdict(result), "threshold_from": origin}))  # noqa: T201
        return 0
    decision = "same person" if result.same_person else "different persons"
    Console(soft_wrap=True, highlight=False).print(
        f"similarity {result.similarity:.4f}, threshold {threshold:.4f} ({origin}): {decision}",
        markup=False,
    )
    return 0
