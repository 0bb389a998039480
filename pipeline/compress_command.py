"""``reid-edge compress``: a small model for a place, from its images without labels."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence

from pipeline.command import GUARD, check_extra
from reid_edge.cli.guard import Parser, path_argument
from reid_edge.core.errors import CheckpointError, ModelError

logger = logging.getLogger("pipeline.compress")

TARGET = "osnet_x0_5"
FORMATS = "torchscript,torchscript_int8,onnx,onnx_int8"


def main(arguments: Sequence[str], prog: str = "reid-edge compress") -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    options = parse_arguments(arguments, prog)

    def command() -> None:
        check_extra(prog)
        check_request(options)
        logger.info("compress: reading %s", options.model)
        from pipeline.compress_work import compress

        compress(options)

    return GUARD.run(command)


def check_request(options: argparse.Namespace) -> None:
    """Check what can be checked before PyTorch is imported and the time of a step is measured.

    Raises:
        CheckpointError: there is no such model file, or it is of no kind that is known.
        ModelError: the file is no checkpoint, or the target or the input size is not known.
        DataError: there is no such folder of images.
        QuantizeError: a file format is not known.
        PipelineError: the folder for the run is not free.
    """
    from pydantic import ValidationError

    from pipeline.run_dir import RunDir
    from pipeline.settings.data import DataSettings
    from pipeline.settings_io import split_names
    from quantize.exporters import EXPORTERS
    from reid_edge.cli.model_options import parse_input_size
    from reid_edge.core.backends import recognise
    from reid_edge.data.paths import existing_folder
    from reid_edge.models.registry import ARCHITECTURES

    if not options.model.is_file():
        raise CheckpointError(f"{options.model}: no such file; give the path of a checkpoint")
    backend = recognise(options.model)
    existing_folder(options.images)
    if backend.name != "checkpoint":
        raise ModelError(
            f"{options.model}: is {backend.description}, and channels are removed from a "
            "checkpoint; give the one that it was made of"
        )
    ARCHITECTURES.check(options.target)
    size = parse_input_size(options.input_size)
    assert size is not None, "it has a default"
    try:
        DataSettings(height=size[0], width=size[1])
    except ValidationError as error:
        (side,), reason = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ModelError(
            f"--input-size {options.input_size}: {side}: {reason[0].lower()}{reason[1:]}"
        ) from error
    for name in split_names(options.formats):
        EXPORTERS.check(name)
    if options.output is not None:
        RunDir(options.output).check()


def parse_arguments(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog=prog,
        description="Make a model small for a place, from images of it that nobody has labelled: "
        "adapt it where that gains, cut it, train it with the uncut model as teacher, make it "
        "int8, write files, time them. It is a run of the pipeline with configs/compress.yaml. "
        "The same command resumes after an interruption.",
    )
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL",
        help="a checkpoint of this program, torchreid, FastReID or BoxMOT; of the target's family",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=path_argument, required=True, metavar="FOLDER",
        help="64 or more different images of persons, at any depth; more are better",
    )  # fmt: skip
    parser.add_argument(
        "--target", default=TARGET, metavar="NAME",
        help=f"architecture of the small model (default: {TARGET})",
    )  # fmt: skip
    parser.add_argument(
        "--hours", type=_hours, default=1.0, metavar="H",
        help="time for all of it; epochs are chosen to fit (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_argument, metavar="FOLDER",
        help="folder of the run (default: <name of MODEL>-<target>)",
    )  # fmt: skip
    parser.add_argument(
        "--formats", default=FORMATS, metavar="A,B",
        help=f"files to write, of docs/reference/names.md (default: {FORMATS})",
    )  # fmt: skip
    parser.add_argument(
        "--layout", choices=("unlabelled", "tracklets"), metavar="NAME",
        help="unlabelled or tracklets (default: the one that is recognised)",
    )  # fmt: skip
    parser.add_argument(
        "--input-size", default="256x128", metavar="HxW", help="input size (default: 256x128)"
    )
    parser.add_argument(
        "--architecture", metavar="NAME",
        help="architecture of MODEL, if neither the file nor its name says it",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=_seed, default=0, help="seed of all random draws (default: 0)"
    )
    parser.add_argument(
        "--no-adapt", dest="adapt", action="store_false", help="leave the adaptation out"
    )
    return parser.parse_args(arguments)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected hours, such as 0.5 or 8")
    return value
