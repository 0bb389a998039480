"""``reid-edge check FOLDER``: check a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reid_edge.cli.data_options import add_data_set_option
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.cli.reading import read_as
from reid_edge.core.errors import DataError
from reid_edge.data.decoded_share import DECODED, MOST_DECODED

if TYPE_CHECKING:
    from reid_edge.data.check_report import DataReport
    from reid_edge.data.unlabelled_check import UnlabelledReport

HELP = (
    "check a data set: counts, unreadable images, queries with no match and why; without "
    "identities: images that are nearly the same, tiny or blurred"
)
EXIT_PROBLEMS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, help="the data set's folder, or a CSV file")
    add_data_set_option(parser)
    parser.add_argument(
        "--decode",
        type=_number_or_all,
        metavar="N",
        help="decode at most N images, evenly spaced, or all; of the others the file is hashed, "
        "and its header and end are looked at. Default: all of a set of up to "
        f"{MOST_DECODED:,} images, {DECODED:,} of a larger one; all of one without identities",
    )
    parser.epilog = (
        "Exit code: 0, or 1 if there are problems, or 2 if it cannot be read as a data set."
    )


def _number_or_all(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0 or all, found {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Print the report.

    Returns:
        0, or 1 if there are problems.

    Raises:
        DataError: the folder cannot be read as a data set, or a part of the images of a set
            without identities is to be decoded.
    """
    from reid_edge.data.checking import check_data
    from reid_edge.data.unlabelled_check import check_unlabelled

    with progress_bars() as start:
        data, reading = read_as(options.name, options.folder, start("extracting"))
        report: DataReport | UnlabelledReport
        if data.labels == "persons":
            report = check_data(data, start("reading images"), decoded=options.decode)
        elif options.decode not in (None, sys.maxsize):
            raise DataError(
                f"--decode {options.decode}: {options.folder} has no identities, and all images of "
                "such a set are decoded; leave --decode out"
            )
        else:
            report = check_unlabelled(data, start("reading images"))
    console = Console(soft_wrap=True, highlight=False)
    console.print(str(reading), markup=False)
    console.print(report)
    return EXIT_PROBLEMS if report.problems() else 0
