"""``reid-edge doctor``: where a file goes away from its model, and the usual reason."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline.command import check_extra, check_given
from reid_edge.cli.guard import Guard, Parser, path_argument
from reid_edge.cli.model_options import add_reading_options

GUARD = Guard(packages=("pipeline", "reid_edge", "quantize"))
IMAGES = 8


def main(arguments: Sequence[str], prog: str = "reid-edge doctor") -> int:
    """Run the command; return its exit code.

    Args:
        arguments: without the program's name.
        prog: what the command is called.

    Returns:
        0 if the file agrees with the model, 1 if it does not, 2 for bad input.
    """
    options = parse_arguments(arguments, prog)

    def command() -> int:
        check_extra(prog)
        check_given([options.model, options.file], options.images)
        from pipeline.doctor_work import examine

        return examine(options)

    return GUARD.run(command, options)


def parse_arguments(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog=prog,
        description="Find out why a file does not give the embeddings of its model: whether "
        "another preparation of the images mends it, whether its batch matters, and, of an ONNX "
        "file, which layer is the first whose output differs.",
        epilog="Exit code: 0 if the file agrees with the model, 1 if it does not, 2 for bad input.",
    )
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL",
        help="a checkpoint, or a float ONNX or TorchScript file",
    )  # fmt: skip
    parser.add_argument("file", type=path_argument, metavar="FILE", help="a file of that model")
    parser.add_argument(
        "--images", type=path_argument, required=True, metavar="FOLDER",
        help=f"images of persons, at any depth; {IMAGES} of them are taken",
    )  # fmt: skip
    add_reading_options(parser)
    parser.add_log_options()
    return parser.parse_args(arguments)
