"""``reid-edge export``: files of any model, each checked on images, without a run and labels."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command import check_extra
from reid_edge.cli.guard import EXIT_BAD_INPUT, Guard, Parser, path_argument, say
from reid_edge.cli.model_options import parse_colours, parse_input_size
from reid_edge.core.errors import DataError, PipelineError
from reid_edge.core.model_file import FLOAT_INPUT, INPUT_FORMS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipeline.export_images import Halves
    from pipeline.export_model import ExportModel
    from pipeline.file_parity import Judge
    from pipeline.stage_results import ExportedModel, FileResult
    from reid_edge.core.exporter import CalibrationBatches, Exporter, ExportSource

DEFAULT_FORMATS = "torchscript,onnx,onnx_int8"
ALL = "all"
PARITY_FILE = "parity.json"
TIMED_CALLS = 20
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
        return export_files(options)

    return GUARD.run(command)


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
        "--format", default=DEFAULT_FORMATS, metavar="A,B",
        help=f"formats of docs/reference/names.md, or '{ALL}' (default: {DEFAULT_FORMATS})",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_argument, metavar="FOLDER",
        help="where to write (default: <name of MODEL>-export)",
    )  # fmt: skip
    model = parser.add_argument_group("model")
    model.add_argument(
        "--architecture", metavar="NAME",
        help="architecture of another program's checkpoint (default: as in the file's name)",
    )  # fmt: skip
    model.add_argument(
        "--input-size", metavar="HxW", help="input size (default: the file's own, or 256x128)"
    )
    model.add_argument(
        "--weights-key", metavar="KEY",
        help="which weights to take of another program's checkpoint that holds several",
    )  # fmt: skip
    for name, meaning in (("mean", "mean"), ("std", "standard deviation")):
        model.add_argument(
            f"--{name}", metavar="R,G,B",
            help=f"{meaning} of each colour in [0, 1] (default: the file's own, or ImageNet's)",
        )  # fmt: skip
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
    return parser.parse_args(arguments)


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
    value = float(text)
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a cosine is between -1 and 1")
    return value


def export_files(options: argparse.Namespace) -> int:
    """Write and check the files, print the table, write ``parity.json``.

    Returns:
        0, or 2 if a file does not agree with the model or could not be made.

    Raises:
        ReidError: the model, the images or the folder cannot be used, or a package is missing.
    """
    from pipeline.export_images import halve
    from pipeline.export_model import ModelChoice, load_export_model
    from pipeline.export_table import export_table
    from pipeline.file_parity import write_files, write_for_trackers
    from pipeline.stage_results import Parities
    from reid_edge.core.io import write_bytes

    exporters, skipped = choose_exporters(options.format)
    folder = options.output or Path(f"{options.model.stem}-export")
    halves = halve(options.images)
    choice = ModelChoice(
        options.model,
        options.architecture,
        parse_input_size(options.input_size),
        parse_colours("--mean", options.mean),
        parse_colours("--std", options.std),
        options.weights_key,
    )
    with tempfile.TemporaryDirectory() as scratch:
        model = load_export_model(choice, Path(scratch))
        judge = make_judge(model, halves, options)
        make_folder(folder)
        rows = write_files(
            exporters,
            make_source(model, halves, options),
            judge,
            folder,
            batches=options.batch,
            settings_of=_default_settings,
        )
    write_for_trackers(folder, rows)
    rows += skipped
    about = describe(model, judge, halves, options)
    write_bytes(folder / PARITY_FILE, Parities(files=tuple(rows), model=about).to_json())
    print(f"{export_table(rows)}\n\nthe files and {PARITY_FILE} are in {folder}")  # noqa: T201
    failed = [row for row in rows if row.problems]
    if failed:
        others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        say(f"error: {failed[0].name}{others} cannot be used: {failed[0].problems[0]}")
        return EXIT_BAD_INPUT
    return 0


def choose_exporters(text: str) -> tuple[list[Exporter], list[FileResult]]:
    """Return the exporters that ``--format`` names, in order, with those that they are made of.

    Returns:
        The exporters; and with "all", a row for each format whose package is not installed.

    Raises:
        QuantizeError: a format is unknown, or its package is not installed.
    """
    from quantize.exporters import EXPORTERS
    from reid_edge.core.exporter import check_packages, in_order, with_what_they_are_made_of

    if text != ALL:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise PipelineError("--format names no format")
        found = in_order(with_what_they_are_made_of(names, EXPORTERS.load).values())
        check_packages(found)
        return found, []
    from pipeline.stage_results import FileResult
    from reid_edge.core.errors import QuantizeError

    installed, rows = {}, []
    for name, exporter in EXPORTERS.items():
        try:
            check_packages(with_what_they_are_made_of([name], EXPORTERS.load).values())
            installed[name] = exporter
        except QuantizeError as error:
            rows.append(
                FileResult(name=name, bytes=0, int8=exporter.int8, exporter=name, note=str(error))
            )
    return in_order(installed.values()), rows


def make_folder(folder: Path) -> None:
    """Make the folder that files are written to.

    Raises:
        DataError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be written to; choose another --output")


def make_judge(model: ExportModel, halves: Halves, options: argparse.Namespace) -> Judge:
    """Embed the judging images with the model itself.

    Raises:
        DataError: an image cannot be read, or all images are alike.
        ModelError: the model fails, or does not give embeddings.
    """
    import torch

    from pipeline.file_parity import Judge
    from quantize.parity import ParityLimits, spread
    from reid_edge.inference.embedder import SAME_DIRECTION, embed_files

    reference = torch.from_numpy(embed_files(model.embedder, halves.judging))
    if spread(reference) <= SAME_DIRECTION:
        raise DataError(
            f"{options.images}: its images are all alike, the model gives one embedding for all; "
            "files cannot be judged by them"
        )
    return Judge(
        queries=halves.judging,
        gallery=(),
        reference=reference,
        architecture=model.metadata.architecture or None,
        input_size=model.embedder.space.input_size,
        float_limits=ParityLimits(options.float_cosine, options.float_cosine),
        int8_limits=ParityLimits(options.int8_cosine, options.int8_lowest_cosine),
        timed_calls=TIMED_CALLS,
    )


def make_source(model: ExportModel, halves: Halves, options: argparse.Namespace) -> ExportSource:
    """Return what the files are made from."""
    import torch

    from pipeline.export_images import calibration_batches
    from reid_edge.core.exporter import ExportSource, PixelInput

    space, metadata, pixels = model.embedder.space, model.metadata, None
    if options.input != FLOAT_INPUT:
        order = "BGR" if options.input == "uint8-bgr" else "RGB"
        reverse = order != metadata.colour_order
        mean, std = (
            values[::-1] if reverse else values for values in (metadata.mean, metadata.std)
        )
        pixels = PixelInput(mean, std, reverse)
        form = {"colour_order": order, "mean": mean, "std": std, "input_form": options.input}
        metadata, space = replace(metadata, **form), replace(space, **form)

    @cache
    def draw() -> CalibrationBatches:
        return calibration_batches(halves, space)

    return ExportSource(
        model.module,
        torch.zeros(1, 3, *space.input_size),
        metadata,
        draw,
        dataset=options.images.resolve().name,
        onnx_file=model.onnx_file,
        opset=options.opset,
        pixels=pixels,
    )


def describe(
    model: ExportModel, judge: Judge, halves: Halves, options: argparse.Namespace
) -> ExportedModel:
    """Return what ``parity.json`` says of the model and the images."""
    from pipeline.export_images import CALIBRATION
    from pipeline.stage_results import ExportedModel

    calibration = halves.calibration[:CALIBRATION]
    return ExportedModel(
        file=str(options.model),
        sha256=model.embedder.space.file_hash,
        description=model.embedder.description,
        input_size=model.embedder.space.input_size,
        dimensions=judge.reference.shape[1],
        images=str(options.images),
        calibration_images=len(calibration),
        calibration_digest=halves.digest(calibration),
        judging_images=len(halves.judging),
    )


def _default_settings(exporter: Exporter) -> BaseModel | None:
    return None if exporter.settings is None else exporter.settings()
