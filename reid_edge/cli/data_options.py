"""The options of commands that read a data set."""

import argparse

from reid_edge.data.readers import READERS


def add_data_set_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which data set a folder holds."""
    parser.add_argument(
        "--as", dest="name", metavar="NAME",
        help=f"layout of the data set: {', '.join(READERS)} (default: recognized by its files)",
    )  # fmt: skip
