"""``reid-edge benchmark``: latency of model files here, or on a device that gets them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from pipeline.command import check_extra, check_given
from reid_edge.cli.guard import Guard, Parser, path_argument
from reid_edge.cli.model_options import parse_input_size
from reid_edge.core.errors import PipelineError

GUARD = Guard(
    packages=("pipeline", "reid_edge", "quantize"),
    file_hint="make room or give rights there, then the same command again",
    memory_hint="lower --batches",
)

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str], prog: str = "reid-edge benchmark") -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    options = parse_arguments(arguments, prog)

    def command() -> None:
        check_extra(prog)
        if options.read:
            show_results(options)
        elif options.pack is not None:
            from pipeline.device_pack import write_pack

            write_pack(
                options.files,
                options.pack,
                batches=options.batches,
                threads=options.threads,
                rounds=options.rounds,
                input_size=parse_input_size(options.input_size),
            )
        else:
            check_given(options.files)
            measure(options)

    return GUARD.run(command, options)


def parse_arguments(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog=prog,
        description="Time model files in turn, each in a process of its own. With --pack, write a "
        "folder instead that is copied to a device, where one script times the files; --read shows "
        "its result.",
    )
    parser.add_argument(
        "files", nargs="*", type=path_argument, metavar="FILE",
        help="model files of any kind that reid-edge reads; the first is what others are compared "
        "with",
    )  # fmt: skip
    parser.add_argument(
        "--batches", type=_counts, default=(1, 16), metavar="N,N",
        help="images in a call (default: 1,16)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=_counts, metavar="N,N",
        help="threads of a call (default: 1, and all cores of the machine)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, default=30, metavar="N",
        help="timed calls of each file, batch and number of threads, 2 or more (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--input-size", metavar="HxW", help="input size (default: the file's own, or 256x128)"
    )
    parser.add_argument(
        "--pack", type=path_argument, metavar="FOLDER", help="write files and script for a device"
    )
    parser.add_argument(
        "--read", type=path_argument, nargs="+", metavar="FILE",
        help="show result.json of devices, beside each other",
    )  # fmt: skip
    parser.add_argument(
        "--run", type=path_argument, metavar="FOLDER",
        help="with --read: keep the results in this run, whose report.html then shows them",
    )  # fmt: skip
    parser.add_argument("--json", type=path_argument, metavar="FILE", help="write the result too")
    parser.add_log_options()
    options = parser.parse_args(arguments)
    if bool(options.read) == bool(options.files):
        parser.error("give model files, or --read with results of devices")
    if options.read and (options.pack or options.json):
        parser.error("--read shows results; it takes neither --pack nor --json")
    if options.run and not options.read:
        parser.error("--run: goes with --read alone")
    if options.pack and options.json:
        parser.error("--pack measures nothing here; it does not take --json")
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: 2 or more")
    return options


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 up such as 1,16, found {text!r}")
    return tuple(int(part) for part in parts)


def measure(options: argparse.Namespace) -> None:
    """Time the files on this machine and print a table.

    Raises:
        ReidError: a file cannot be loaded or run.
        OSError: there is no place for ``--json``.
    """
    from pipeline.device_results import show_table
    from pipeline.file_timing import time_files
    from reid_edge.core.io import write_bytes

    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)  # before the minutes of timing
    result = time_files(
        options.files,
        batches=options.batches,
        threads=options.threads,
        rounds=options.rounds,
        input_size=parse_input_size(options.input_size),
    )
    show_table([result])
    if options.json is not None:
        write_bytes(options.json, result.to_json())


def show_results(options: argparse.Namespace) -> None:
    """Print results of devices beside each other; with ``--run``, keep them in a run's report.

    Raises:
        PipelineError: a file is not such a result, or there is no such run.
    """
    from pipeline.device_results import keep_results, read_result, show_table
    from pipeline.run_dir import RunDir

    results = [read_result(path) for path in options.read]
    if options.run is not None:
        run = RunDir(options.run)
        if not run.config_path.is_file():
            raise PipelineError(f"{options.run}: holds no run; name its folder with --run")
        from pipeline.report.show import write_page_again

        keep_results(options.read, results, run.path)
        logger.info("written: %s", write_page_again(run))
    show_table(results)
