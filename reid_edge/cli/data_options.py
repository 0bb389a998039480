"""The options of commands that read a data set."""

import argparse

# The keys of ``reid_edge.data.sources.SOURCES``, which takes too long to import for a help text.
DATA_SETS = (
    "market1501", "dukemtmc-reid", "cuhk03-detected", "cuhk03-labelled", "cuhk03-classic-detected",
    "cuhk03-classic-labelled", "msmt17", "casia-webface", "csv", "folders",
)  # fmt: skip


def add_data_set_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which data set a folder holds."""
    parser.add_argument(
        "--as", dest="name", metavar="NAME",
        help=f"which data set it is: {', '.join(DATA_SETS)} (default: by what is in it)",
    )  # fmt: skip
