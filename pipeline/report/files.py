"""The exported files: how each agrees with the model, and what it measures by itself."""

from typing import Any

from rich.table import Table

from pipeline.report.accuracy import percent
from pipeline.report.tables import size

FILE_HEADINGS = (
    "size", "cosine", "lowest", "same nearest", "top 10", "mAP", "rank-1", "EER", "at", "fits",
)  # fmt: skip


def files_table(story: dict[str, Any]) -> Table:
    """Return one row a file."""
    table = Table(title="Files beside their model", title_justify="left")
    table.add_column("file", no_wrap=True)
    for heading in FILE_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in story["files"]:
        table.add_row(row["name"], *file_cells(row))
    return table


def file_cells(row: dict[str, Any]) -> list[str]:
    """Return what the table shows of a file below ``FILE_HEADINGS``, by cosine similarity."""
    fits = "yes" if not row["problems"] else "no"
    if "parity" not in row:
        return [size(row["bytes"]), *["-"] * (len(FILE_HEADINGS) - 2), fits]
    parity, ranking = row["parity"], row["metrics"]["cosine"]
    verification = row["metrics"]["verification"] or {}
    threshold = verification.get("equal_error_threshold")
    return [
        size(row["bytes"]),
        f"{parity['mean_cosine']:.4f}",
        f"{parity['lowest_cosine']:.4f}",
        percent(parity["same_nearest"]),
        percent(parity["nearest_overlap"]),
        percent(ranking["mean_average_precision"]),
        percent(ranking["cumulative_matching"]["1"]),
        percent(verification.get("equal_error_rate")),
        "-" if threshold is None else f"{threshold:.3f}",
        fits,
    ]
