"""The exported files in the report: agreement with the model, and own accuracy."""

from __future__ import annotations

from pipeline.report.accuracy import percent
from pipeline.report.text import size
from pipeline.stage import ReportSection
from pipeline.stage_results import FileResult, StageRecord
from reid_edge.core.tables import FittingTable

FILE_HEADINGS = (
    "size", "cosine", "lowest", "same nearest", "top 10", "mAP", "rank-1", "EER", "at", "fits",
)  # fmt: skip
DROPPED_FIRST = ("at", "top 10", "cosine", "EER", "rank-1", "same nearest", "size")


def file_cells(file: FileResult) -> list[str]:
    """Return what the table shows of a file below ``FILE_HEADINGS``, by cosine similarity."""
    fits = "yes" if not file.problems else "no"
    if file.parity is None or file.metrics is None:
        return [size(file.bytes), *["-"] * (len(FILE_HEADINGS) - 2), fits]
    parity, ranking, verification = (
        file.parity,
        file.metrics.ranking["cosine"],
        file.metrics.verification,
    )
    return [
        size(file.bytes),
        f"{parity.mean_cosine:.4f}",
        f"{parity.lowest_cosine:.4f}",
        percent(parity.same_nearest),
        percent(parity.nearest_overlap),
        percent(ranking.mean_average_precision),
        percent(ranking.cumulative_matching[1]),
        percent(None if verification is None else verification.equal_error_rate),
        "-" if verification is None else f"{verification.equal_error_threshold:.3f}",
        fits,
    ]


def file_headings(_: StageRecord) -> tuple[str, ...]:
    """Return what heads the columns."""
    return FILE_HEADINGS


FILES_SECTION = ReportSection(
    tables=lambda record: (
        [
            FittingTable(
                "Files beside their model",
                ["file", *FILE_HEADINGS],
                rows,
                drop=DROPPED_FIRST,
                breaking=FILE_HEADINGS[-1:],
            )
        ]
        if (rows := [(file.name, *file_cells(file)) for file in record.result.files])
        else []
    ),
    template="files.html.j2",
    filters=(file_cells, file_headings),
)
