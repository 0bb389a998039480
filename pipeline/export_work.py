"""The work of ``reid-edge export``: the model, the images, the files, the table."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.export_command import ALL, DEFAULT_FORMATS
from pipeline.export_dimensions import Smaller, make_smaller
from pipeline.export_images import CALIBRATION, Halves, calibration_batches, halve
from pipeline.export_input import file_input
from pipeline.export_model import ExportModel, ModelChoice, load_export_model
from pipeline.export_table import dimensions_table, export_table
from pipeline.file_parity import replaced_files, write_files, write_for_trackers
from pipeline.judging import Judge
from pipeline.settings_io import split_names
from pipeline.stage_results import ExportedModel, FileResult, Parities
from quantize.exporters import EXPORTERS
from quantize.parity import ParityLimits, spread
from quantize.projection import with_projection
from reid_edge.cli.guard import EXIT_BAD_INPUT, say
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.core.errors import DataError, PipelineError, QuantizeError
from reid_edge.core.exporter import (
    NEEDS_MODEL,
    CalibrationBatches,
    Exporter,
    ExportSource,
    check_packages,
    in_order,
    with_what_they_are_made_of,
)
from reid_edge.core.io import write_bytes
from reid_edge.core.progress import StartProgress
from reid_edge.inference.embedder import SAME_DIRECTION, embed_files

if TYPE_CHECKING:
    from pydantic import BaseModel

PARITY_FILE = "parity.json"
TIMED_CALLS = 20

logger = logging.getLogger(__name__)


def export_files(options: argparse.Namespace) -> int:
    """Write and check the files, print the table, write ``parity.json``.

    Returns:
        0, or 2 if a file does not agree with the model or could not be made.

    Raises:
        ReidError: the model, the images or the folder cannot be used, or a package is missing.
    """
    exporters, skipped = choose_exporters(options.format or DEFAULT_FORMATS)
    folder = options.output or Path(f"{options.model.stem}-export")
    halves = halve(options.images)
    choice = ModelChoice.of(options)
    with tempfile.TemporaryDirectory() as scratch, progress_bars(quiet=options.quiet) as work:
        model = load_export_model(choice, Path(scratch))
        if model.module is None and options.format in (None, ALL):
            # Who names no format wants those that can be made.
            skipped += [_left_out(one, NEEDS_MODEL) for one in exporters if one.needs_model]
            exporters = [one for one in exporters if not one.needs_model]
        # Before the minutes that embedding may take.
        named = make_source(model, halves, options, None)
        check_kept(options.model, replaced_files(exporters, named, folder, options.batch))
        make_folder(folder)
        logger.info("export: embedding %d images with the model", len(halves.judging))
        reference = embed_judging(model, halves, options, work)
        smaller = (
            make_smaller(model, reference, halves, options) if options.dims is not None else None
        )
        expected = reference if smaller is None else smaller.reference
        rows = write_files(
            exporters,
            make_source(model, halves, options, smaller),
            replace(make_judge(model, expected, halves, options), work=work),
            folder,
            batches=options.batch,
            settings_of=_default_settings,
        )
    write_for_trackers(folder, rows)
    left = _left_over(folder, rows)
    rows += skipped
    parities = Parities(
        files=tuple(rows),
        model=describe(model, reference, halves, options),
        dimensions=() if smaller is None else smaller.costs,
        left_over=left,
    )
    write_bytes(folder / PARITY_FILE, parities.to_json())
    if smaller is not None:
        print(f"{dimensions_table(smaller.costs)}\n")  # noqa: T201
    print(f"{export_table(rows)}\n\nthe files and {PARITY_FILE} are in {folder}")  # noqa: T201
    if left:
        print(f"of an earlier export, and not made again: {', '.join(left)}")  # noqa: T201
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
    if text != ALL:
        names = split_names(text)
        if not names:
            raise PipelineError("--format names no format")
        found = in_order(with_what_they_are_made_of(names, EXPORTERS.load).values())
        check_packages(found)
        return found, []
    installed, rows = {}, []
    for name, exporter in EXPORTERS.items():
        try:
            check_packages(with_what_they_are_made_of([name], EXPORTERS.load).values())
            installed[name] = exporter
        except QuantizeError as error:
            rows.append(_left_out(exporter, str(error)))
    return in_order(installed.values()), rows


def _left_over(folder: Path, rows: Iterable[FileResult]) -> tuple[str, ...]:
    """Return files that an earlier export wrote into the folder, and this one has not.

    They may be of another model. They stay: an export of one format after the other is usual.
    """
    try:
        former = Parities.model_validate_json((folder / PARITY_FILE).read_bytes())
    except (OSError, ValidationError):
        return ()
    made = {row.path for row in rows}
    names = dict.fromkeys((*former.left_over, *(row.path for row in former.files)))
    return tuple(name for name in names if name and name not in made and (folder / name).is_file())


def _left_out(exporter: Exporter, reason: str) -> FileResult:
    """Return the row of a format that is not made, and was not asked for by its name."""
    name = exporter.name
    return FileResult(name=name, bytes=0, int8=exporter.int8, exporter=name, note=reason)


def check_kept(model_file: Path, replaced: Iterable[Path]) -> None:
    """Check that the model's own file is not among those that an export replaces.

    Raises:
        DataError: it is.
    """
    for path in replaced:
        if path.resolve() == model_file.resolve():
            raise DataError(
                f"{model_file}: would be replaced by a file of the export; name another folder "
                "with --output"
            )


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


def embed_judging(
    model: ExportModel, halves: Halves, options: argparse.Namespace, work: StartProgress
) -> Tensor:
    """Embed the judging images with the model itself; return its embeddings (N, D).

    Raises:
        DataError: an image cannot be read, or all images are alike.
        ModelError: the model fails, or does not give embeddings.
    """
    report = work("embedding images with the model")
    reference = torch.from_numpy(embed_files(model.embedder, halves.judging, progress=report))
    if spread(reference) <= SAME_DIRECTION:
        raise DataError(
            f"{options.images}: its images are all alike, the model gives one embedding for all; "
            "files cannot be judged by them"
        )
    return reference


def make_judge(
    model: ExportModel, reference: Tensor, halves: Halves, options: argparse.Namespace
) -> Judge:
    """Return what judges the files by the model's embeddings (N, D) of the judging images."""
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


def make_source(
    model: ExportModel, halves: Halves, options: argparse.Namespace, smaller: Smaller | None
) -> ExportSource:
    """Return what the files are made from."""
    given = file_input(options.input, model.metadata, model.embedder.space)

    @cache
    def draw() -> CalibrationBatches:
        return calibration_batches(halves, given.space)

    module, metadata = model.module, given.metadata
    if smaller is not None:
        metadata = replace(metadata, notes={"dimensions": str(options.dims)})
        if module is not None:
            module = with_projection(module, smaller.projection)
    return ExportSource(
        module,
        torch.zeros(1, 3, *given.space.input_size),
        metadata,
        draw,
        dataset=options.images.resolve().name,
        onnx_file=model.onnx_file,
        opset=options.opset,
        pixels=given.pixels,
        projection=None if smaller is None else smaller.projection,
    )


def describe(
    model: ExportModel, reference: Tensor, halves: Halves, options: argparse.Namespace
) -> ExportedModel:
    """Return what ``parity.json`` says of the model and the images."""
    calibration = halves.calibration[:CALIBRATION]
    return ExportedModel(
        file=str(options.model),
        sha256=model.embedder.space.file_hash,
        description=model.embedder.description,
        input_size=model.embedder.space.input_size,
        dimensions=reference.shape[1],
        images=str(options.images),
        calibration_images=len(calibration),
        calibration_digest=halves.digest(calibration),
        judging_images=len(halves.judging),
    )


def _default_settings(exporter: Exporter) -> BaseModel | None:
    return None if exporter.settings is None else exporter.settings()
