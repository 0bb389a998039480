"""``reid-edge check FOLDER``: check a data set."""

import argparse
from pathlib import Path

from rich.console import Console

from reid_edge.cli.data_options import add_data_set_option
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.cli.reading import read_as

HELP = (
    "check a data set: counts, unreadable images, queries with no match and why; without "
    "identities: images that are nearly the same, tiny or blurred"
)
EXIT_PROBLEMS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", type=Path, help="the data set's folder, or a CSV file")
    add_data_set_option(parser)
    parser.epilog = (
        "Exit code: 0, or 1 if there are problems, or 2 if it cannot be read as a data set."
    )


def run(options: argparse.Namespace) -> int:
    """Print the report.

    Returns:
        0, or 1 if there are problems.

    Raises:
        DataError: the folder cannot be read as a data set.
    """
    from reid_edge.data.checking import check_data
    from reid_edge.data.unlabelled_check import check_unlabelled

    with progress_bars() as start:
        data, reading = read_as(options.name, options.folder, start("extracting"))
        check = check_data if data.labels == "persons" else check_unlabelled
        report = check(data, start("reading images"))
    console = Console(soft_wrap=True, highlight=False)
    console.print(str(reading), markup=False)
    console.print(report)
    return EXIT_PROBLEMS if report.problems() else 0
