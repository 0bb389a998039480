"""Stage ``export``: files of the latest float model for other programs, each checked against it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.context import StageContext
from pipeline.dependencies import PARENT_INPUT
from pipeline.exporters import check_model, export_source, exporters, settings_of
from pipeline.file_parity import (
    Embedded,
    ExportedFile,
    check_file,
    embed_test_images,
    reject,
)
from pipeline.run_dir import INT8_FILE
from pipeline.settings.export import INT8_OF_QUANTIZE
from reid_edge.core.errors import PipelineError, QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import write_json

PARITY_FILE = "parity.json"

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Write the files, compare each with the model, and write ``parity.json``.

    Raises:
        PipelineError: a file does not agree with the model; it is kept as ``rejected-...``.
    """
    assert context.parent is not None, "export was planned without a parent"
    settings = context.config.export
    model, info = context.load_parent()
    check_model(settings.files, info)
    _, reference = embed_test_images(context.parent, context, info.architecture)
    verification = reference.metrics["verification"]
    threshold = None if verification is None else verification["equal_error_threshold"]
    source = export_source(context, model, info, threshold)
    made: dict[str, Path] = {}
    rows: list[ExportedFile] = []
    for exporter in exporters(settings.files):
        own = replace(source, files=dict(made), settings=settings_of(exporter, settings))
        row = _make(exporter, own, context, reference)
        if not row.problems:
            made[exporter.name] = context.folder / row.name
        rows.append(row)
    if INT8_OF_QUANTIZE in settings.files:
        rows += _check_int8_of_quantize(context, reference)
    result = {"files": [row.to_dict() for row in rows]}
    write_json(context.folder / PARITY_FILE, result)
    _raise_if_any_failed(rows, context)
    return result


def _make(
    exporter: Exporter, source: ExportSource, context: StageContext, reference: Embedded
) -> ExportedFile:
    """Write a file, compare it with the model, and set it aside if it differs."""
    path = context.folder / exporter.file_name(source)
    row = ExportedFile(
        path.name, 0, exporter.int8, exporter=exporter.name, meant_for=exporter.meant_for
    )
    try:
        exporter.write(source, path)
    except QuantizeError as error:
        return replace(row, problems=(str(error),))
    row = check_file(path, context, reference, row)
    kept = reject(path) if row.problems else path
    where = f"{context.stage}/{kept.name}"
    return replace(row, path=where, file=where if exporter.timed else None)


def _check_int8_of_quantize(context: StageContext, reference: Embedded) -> list[ExportedFile]:
    """Compare the file of the stage quantize, which stays where it is."""
    if "quantize" not in context.made:
        logger.info("export: no torchscript_int8 to check, the stage quantize has made none")
        return []
    path = context.folder.parent / "quantize" / INT8_FILE
    if context.made["quantize"].inputs.get(PARENT_INPUT) != context.parent_hash:
        logger.info("export: %s was made from another model than these files; not checked", path)
        return []
    row = ExportedFile(path.name, 0, int8=True, exporter=INT8_OF_QUANTIZE)
    return [replace(check_file(path, context, reference, row), name=f"quantize/{INT8_FILE}")]


def _raise_if_any_failed(rows: list[ExportedFile], context: StageContext) -> None:
    failed = [row for row in rows if row.problems]
    if not failed:
        return
    first, others = failed[0], len(failed) - 1
    where = f"; it is {context.folder.parent / first.path}" if first.path else ""
    more = f"; {others} more failed" if others else ""
    raise PipelineError(
        f"export: {first.name} does not agree with the model: {', '.join(first.problems)}"
        f"{where}{more}; see {context.folder / PARITY_FILE}, or set export.parity"
    )
