"""Stage ``export``: files of the latest float model for other programs, each checked against it."""

import logging
from typing import Any

from pipeline.context import StageContext
from pipeline.dependencies import PARENT_INPUT
from pipeline.export_files import FILE_KINDS, FileKind, Source, check_wanted
from pipeline.file_parity import Embedded, check_file, embed_test_images, reject
from pipeline.run_dir import INT8_FILE
from reid_edge.core.errors import PipelineError, QuantizeError
from reid_edge.core.io import write_json

PARITY_FILE = "parity.json"

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Write the files, compare each with the model, and write ``parity.json``.

    Raises:
        PipelineError: a file does not agree with the model; it is kept as ``rejected-...``.
    """
    assert context.parent is not None, "export was planned without a parent"
    model, info = context.load_parent()
    check_wanted(context.config.export.files, info)
    _, reference = embed_test_images(context.parent, context, info.architecture)
    verification = reference.metrics["verification"]
    threshold = None if verification is None else verification["equal_error_threshold"]
    source = Source(context, model, info, threshold)
    wanted = [kind for name, kind in FILE_KINDS.items() if name in context.config.export.files]
    rows = [_make(kind, source, reference) for kind in wanted]
    rows += _check_int8_torchscript(context, reference)
    write_json(context.folder / PARITY_FILE, {"files": rows})
    _raise_if_any_failed(rows, context)
    return {"files": rows}


def _make(kind: FileKind, source: Source, reference: Embedded) -> dict[str, Any]:
    """Write a file, compare it, set it aside if it differs; return its row of the report."""
    context = source.context
    path = context.folder / kind.name(source)
    try:
        kind.write(source, path)
    except QuantizeError as error:
        return {"name": path.name, "bytes": 0, "int8": kind.int8, "problems": [str(error)]}
    row = check_file(path, context, reference, int8=kind.int8)
    kept = reject(path) if row["problems"] else path
    lies = f"{context.stage}/{kept.name}"
    return {**row, "lies": lies, **({"file": lies} if kind.timed else {})}


def _check_int8_torchscript(context: StageContext, reference: Embedded) -> list[dict[str, Any]]:
    """Compare the file of the stage quantize, which stays where it is."""
    if "torchscript_int8" not in context.config.export.files:
        return []
    if "quantize" not in context.made:
        logger.info("export: no torchscript_int8 to check, the stage quantize has made none")
        return []
    path = context.folder.parent / "quantize" / INT8_FILE
    if context.made["quantize"].inputs.get(PARENT_INPUT) != context.parent_hash:
        logger.info("export: %s was made from another model than these files; not checked", path)
        return []
    row = check_file(path, context, reference, int8=True)
    return [{**row, "name": f"quantize/{INT8_FILE}"}]


def _raise_if_any_failed(rows: list[dict[str, Any]], context: StageContext) -> None:
    failed = [row for row in rows if row["problems"]]
    if not failed:
        return
    first, others = failed[0], len(failed) - 1
    lies = f"; it lies in {context.folder.parent / first['lies']}" if "lies" in first else ""
    more = f"; {others} more failed" if others else ""
    raise PipelineError(
        f"export: {first['name']} does not agree with the model: {', '.join(first['problems'])}"
        f"{lies}{more}; see {context.folder / PARITY_FILE}, or set export.parity"
    )
