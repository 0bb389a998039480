"""``reid-edge export``: files of any model, each checked on images, without a run and labels."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from pipeline.command import check_extra, check_given
from reid_edge.cli.guard import Guard, Parser, path_argument
from reid_edge.cli.model_options import add_reading_options
from reid_edge.core.model_file import FLOAT_INPUT, INPUT_FORMS

DEFAULT_FORMATS = "torchscript,onnx,onnx_int8"
ALL = "all"
LARGEST_BATCH = 1024
OPSETS = range(13, 21)
GUARD = Guard(
    packages=("pipeline", "reid_edge", "quantize"),
    interrupted="interrupted; the files that are named above are there",
    file_hint="make room or give rights there, then the same command again",
    memory_hint="give it more memory",
)


def main(arguments: Sequence[str], prog: str = "reid-edge export") -> int:
    """Run the command; return its exit code.

    Args:
        arguments: without the program's name.
        prog: what the command is called.

    Returns:
        0; 2 for bad input, or if a file does not agree with the model or could not be made.
    """
    options = parse_arguments(arguments, prog)

    def command() -> int:
        check_extra(prog)
        check_given([options.model], options.images)
        from pipeline.export_work import export_files

        return export_files(options)

    return GUARD.run(command, options)


def parse_arguments(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog=prog,
        description="Write files of a model for other programs and devices, and compare each with "
        "the model on images of persons, which need no labels. Half of the images calibrate int8 "
        "files, the others judge all files. A file outside its limits is kept as rejected-...",
    )
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL",
        help="a checkpoint of this program, torchreid, FastReID or BoxMOT, or a float ONNX or "
        "TorchScript file of any network from images to embeddings",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=path_argument, required=True, metavar="FOLDER",
        help="64 or more different images of persons, at any depth",
    )  # fmt: skip
    parser.add_argument(
        "--format", metavar="A,B",
        help=f"formats of docs/reference/names.md, or '{ALL}' (default: {DEFAULT_FORMATS})",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_argument, metavar="FOLDER",
        help="where to write (default: <name of MODEL>-export)",
    )  # fmt: skip
    add_reading_options(parser.add_argument_group("model"))
    form = parser.add_argument_group("form of the files")
    form.add_argument(
        "--batch", type=_batches, default=(), metavar="N,N",
        help="images in a call, with a file for each number, such as 1,4,8 (default: any number)",
    )  # fmt: skip
    form.add_argument(
        "--input", choices=INPUT_FORMS, default=FLOAT_INPUT,
        help="what the files take: float, normalised images (default), or pixels of 0 to 255 in "
        "RGB or BGR, which they normalise themselves",
    )  # fmt: skip
    form.add_argument(
        "--dims", type=int, metavar="N",
        help="make the embedding N numbers by a PCA of the images' embeddings, in the last layer",
    )  # fmt: skip
    form.add_argument(
        "--whiten", action="store_true",
        help="with --dims: give all of its directions the same variance",
    )  # fmt: skip
    form.add_argument(
        "--data", type=path_argument, metavar="FOLDER",
        help="with --dims: a data set with query and gallery, on which mAP is measured",
    )  # fmt: skip
    form.add_argument(
        "--name", metavar="NAME", help="layout of --data (default: the one that is recognised)"
    )
    form.add_argument(
        "--opset", type=_opset, metavar="N",
        help=f"operator set of ONNX files, {OPSETS[0]} to {OPSETS[-1]} (default: the oldest of "
        "these that has all layers; of an ONNX file its own)",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    for name, default, meaning in (
        ("float-cosine", 0.999, "float files: lowest cosine of any image to the model"),
        ("int8-cosine", 0.98, "int8 files: mean cosine of the images to the model"),
        ("int8-lowest-cosine", 0.9, "int8 files: lowest cosine of any image to the model"),
    ):
        limits.add_argument(
            f"--{name}", type=_cosine, default=default, metavar="X",
            help=f"{meaning} (default: {default})",
        )  # fmt: skip
    parser.add_log_options()
    options = parser.parse_args(arguments)
    for name in ("whiten", "data"):
        if getattr(options, name) and options.dims is None:
            parser.error(f"--{name}: goes with --dims alone")
    if options.name and not options.data:
        parser.error("--name: goes with --data alone")
    return options


def _batches(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, such as 1,4,8") from error
    if not 1 <= numbers[0] <= numbers[-1] <= LARGEST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r}: batches are of 1 to {LARGEST_BATCH} images")
    return numbers


def _opset(text: str) -> int:
    if not text.isdigit() or int(text) not in OPSETS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {OPSETS[0]} to {OPSETS[-1]}")
    return int(text)


def _cosine(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a cosine is a number between -1 and 1")
    return value
