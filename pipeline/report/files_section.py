"""The exported files in the report: agreement with the model, and own accuracy."""

from __future__ import annotations

from pipeline.report.accuracy import percent
from pipeline.report.text import size
from pipeline.stage import ReportSection
from pipeline.stage_results import (
    LIKE_TEACHER,
    FileResult,
    StageRecord,
    headline,
    main_value,
)
from reid_edge.core.tables import FittingTable

BESIDE_MODEL = ("size", "cosine", "lowest", "same nearest", "top 10")
DROPPED_FIRST = ("at", "top 10", "cosine", "EER", "rank-1", "same nearest", "size")


def file_cells(file: FileResult) -> list[str]:
    """Return what the table shows of a file below `file_headings`, by cosine similarity."""
    fits = "yes" if not file.problems else "no"
    parity, metrics = file.parity, file.metrics
    if parity is None or metrics is None:
        return [size(file.bytes), *["-"] * (len(BESIDE_MODEL) + 3), fits]
    values, verification = headline(metrics, "cosine"), metrics.verification
    return [
        size(file.bytes),
        f"{parity.mean_cosine:.4f}",
        f"{parity.lowest_cosine:.4f}",
        percent(parity.same_nearest),
        percent(parity.nearest_overlap),
        percent(main_value(metrics, "person", "cosine")),
        percent(values["rank1" if metrics.label_free is None else "rank correlation"]),
        percent(None if verification is None else verification.equal_error_rate),
        "-" if verification is None else f"{verification.equal_error_threshold:.3f}",
        fits,
    ]


def file_headings(record: StageRecord) -> tuple[str, ...]:
    """Return what heads the columns."""
    measured = (file.metrics for file in record.result.files if file.metrics is not None)
    free = any(metrics.label_free is not None for metrics in measured)
    own = (LIKE_TEACHER, "rank correlation") if free else ("mAP", "rank-1")
    return (*BESIDE_MODEL, *own, "EER", "at", "fits")


FILES_SECTION = ReportSection(
    tables=lambda record: (
        [
            FittingTable(
                "Files beside their model",
                ["file", *file_headings(record)],
                rows,
                drop=[name for name in DROPPED_FIRST if name in file_headings(record)],
                breaking=["fits"],
            )
        ]
        if (rows := [(file.name, *file_cells(file)) for file in record.result.files])
        else []
    ),
    template="files.html.j2",
    filters=(file_cells, file_headings),
)
