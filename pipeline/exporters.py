"""The exporters of the stage ``export``: their checks, their source and their settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pipeline.calibration import describe_images, draw_calibration
from pipeline.context import BATCH, StageContext
from pipeline.export_input import file_input
from pipeline.run_dir import CALIBRATION_FILE
from pipeline.stages.export import IN_SECTION, INT8_OF_QUANTIZE, ExportStage
from quantize.exporters import EXPORTERS
from reid_edge.core import exporter as declarations
from reid_edge.core.errors import PipelineError, QuantizeError
from reid_edge.core.exporter import (
    CalibrationBatches,
    Described,
    Exporter,
    ExportSource,
    Projection,
)
from reid_edge.core.io import write_bytes
from reid_edge.core.model_file import FLOAT_INPUT, ModelMetadata
from reid_edge.inference.embedder import EmbeddingSpace, load_batches

if TYPE_CHECKING:
    from torch import nn

    from reid_edge.models.checkpoint_info import CheckpointInfo

logger = logging.getLogger(__name__)


def exporters(files: Sequence[str]) -> list[Exporter]:
    """Return the declarations for ``export.files``; each comes after the files it is made from.

    The int8 TorchScript file is left out: the stage ``quantize`` makes it.
    """
    names = [name for name in EXPORTERS if name in files and name != INT8_OF_QUANTIZE]
    return declarations.in_order(EXPORTERS.load(name) for name in names)


def check_packages(files: Sequence[str]) -> None:
    """Check that the packages that file formats need are installed.

    Raises:
        PipelineError: one is not; the message names the setting and how to install it.
    """
    try:
        declarations.check_packages(exporters(files))
    except QuantizeError as error:
        raise PipelineError(f"export.files: {error}") from error


def check_model(files: Sequence[str], model: Described) -> None:
    """Check that file formats can carry a model, before anything is written.

    Raises:
        ModelError: one cannot.
    """
    for exporter in exporters(files):
        if exporter.check is not None:
            exporter.check(model)


def check_options(section: ExportStage) -> None:
    """Check ``export.options``: each is of a file that is asked for, and has these settings.

    Raises:
        PipelineError: one is not.
    """
    chosen = {exporter.name: exporter for exporter in exporters(section.files)}
    for name in section.options or {}:
        if name not in chosen:
            raise PipelineError(f"export.options.{name}: {name} is not among export.files")
        if chosen[name].settings is None:
            raise PipelineError(f"export.options.{name}: {name} has no settings; take it out")
    for exporter in chosen.values():
        settings_of(exporter, section)


def check_form(section: ExportStage) -> None:
    """Check that every requested file format can have the input and the dimensions asked for.

    Raises:
        PipelineError: one cannot.
    """
    for exporter in exporters(section.files):
        if section.input != FLOAT_INPUT and not exporter.takes_pixels:
            raise PipelineError(
                f"export.input: {exporter.name} takes normalised images alone; leave it out of "
                "export.files"
            )
        if section.dims is not None and not exporter.carries_widths:
            raise PipelineError(
                f"export.dims: {exporter.name} takes published architectures alone; leave it out "
                "of export.files"
            )
    if section.dims is not None and INT8_OF_QUANTIZE in section.files:
        raise PipelineError(
            f"export.dims: {INT8_OF_QUANTIZE} is the file of the stage quantize, with the whole "
            "embedding; leave it out of export.files"
        )


def check_published_widths(files: Sequence[str], key: str) -> None:
    """Check that every requested file format can carry custom widths.

    Args:
        files: of ``export.files``.
        key: of the setting that gives the widths.

    Raises:
        PipelineError: one cannot.
    """
    for exporter in exporters(files):
        if not exporter.carries_widths:
            raise PipelineError(
                f"export.files: {exporter.name} carries published widths only, and {key} gives "
                f"others; give it an architecture ({key}=osnet_x0_5), or leave the file out"
            )


def model_metadata(context: StageContext[Any], info: CheckpointInfo) -> ModelMetadata:
    """Return what a file says of a stage's model."""
    return ModelMetadata(
        architecture=info.architecture,
        input_size=context.input_size,
        colour_order=info.colour_order,
        mean=info.mean,
        std=info.std,
        parent_hash=context.parent_hash,
    )


def export_source(
    context: StageContext[ExportStage],
    model: nn.Module,
    info: CheckpointInfo,
    threshold: float | None,
    space: EmbeddingSpace,
    projection: Projection | None,
) -> ExportSource:
    """Return what the files of the stage ``export`` are made from.

    All int8 files of an export are calibrated on the same images.

    Args:
        context: of the stage.
        model: the float model, in evaluation mode.
        info: what its checkpoint says.
        threshold: its EER threshold, if one could be measured.
        space: how images are prepared for the model.
        projection: of its embeddings to smaller ones, or None.
    """
    settings = context.settings
    metadata = replace(model_metadata(context, info), threshold=threshold)
    given = file_input(settings.input, metadata, space)

    @cache
    def draw() -> CalibrationBatches:
        drawn = draw_calibration(context, settings.calibration_images, 0).calibration
        described = describe_images(drawn, context.data.root)
        write_bytes(context.folder / CALIBRATION_FILE, described.to_json())
        logger.info("export: int8 files are calibrated on %d images", len(drawn))
        if given.pixels is None:
            return CalibrationBatches(context.batches(drawn), described.digest)
        import torch

        paths = [image.path for image in drawn]
        pixels = [torch.from_numpy(each) for each in load_batches(given.space, paths, BATCH)]
        return CalibrationBatches(pixels, described.digest)

    metadata = given.metadata
    if projection is not None:
        from quantize.projection import with_projection

        model = with_projection(model, projection)
        metadata = replace(metadata, notes={"dimensions": str(settings.dims)})
    return ExportSource(
        model,
        context.example(),
        metadata,
        draw,
        dataset=context.data.root.resolve().name,
        accuracy=info.metrics,
        opset=settings.opset,
        pixels=given.pixels,
        projection=projection,
    )


def settings_of(exporter: Exporter, section: ExportStage) -> BaseModel | None:
    """Return an exporter's own settings, out of the section ``export``.

    Settings of this project's exporters are keys of the section itself; those of others are below
    ``export.options``, by the name of the exporter.

    Raises:
        PipelineError: a setting is unknown or wrong.
    """
    if exporter.settings is None:
        return None
    own = {}
    if exporter.name in IN_SECTION:
        own = {name: getattr(section, name) for name in exporter.settings.model_fields}
    try:
        return exporter.settings.model_validate(
            own | (section.options or {}).get(exporter.name, {})
        )
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"export.options.{exporter.name}: {reason}") from error
