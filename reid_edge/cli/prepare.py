"""``reid-edge prepare NAME``: a checked data set in the Market-1501 layout."""

import argparse
from pathlib import Path

from rich.console import Console

from reid_edge.cli.progress_bars import progress_bars
from reid_edge.data.readers import READERS

HELP = "download or unpack a data set, check its counts, write it in the Market-1501 layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", help=f"data set: {', '.join(READERS)}")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="PATH",
        help="local archive or folder (default: download from Kaggle, if the set is there)",
    )  # fmt: skip
    parser.add_argument(
        "--to",
        dest="target",
        type=Path,
        metavar="FOLDER",
        help="folder to write (default: data/NAME)",
    )
    parser.add_argument(
        "--max-ids", type=int, metavar="N", help="keep the first N identities of train and of test"
    )
    parser.add_argument(
        "--split",
        type=int,
        metavar="N",
        help="which of the 20 splits of CUHK01 or of CUHK03's classic protocol, 0 to 19",
    )
    parser.add_argument(
        "--train-all",
        action="store_true",
        help="also train on the validation images, if there are any; of CUHK01 on all people",
    )
    parser.add_argument(
        "--allow-other-counts", action="store_true",
        help="only warn if the counts are not the published ones",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Prepare the data set and say where it is.

    Returns:
        0.

    Raises:
        DataError: the data set cannot be had, or is not what was published.
    """
    from reid_edge.data.prepare import prepare
    from reid_edge.data.schema import Counts

    target = options.target or Path("data") / options.name
    reader_options: dict[str, object] = {}
    if options.split is not None:
        reader_options["split"] = options.split
    if options.train_all:
        reader_options["train_all"] = True
    with progress_bars() as start:
        data = prepare(
            options.name,
            options.source,
            target,
            max_ids=options.max_ids,
            allow_other_counts=options.allow_other_counts,
            options=reader_options,
            progress=start,
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{target}: {Counts.of(data)}", markup=False)
    return 0
