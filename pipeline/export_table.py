"""What ``reid-edge export`` prints: a table of the files, and what is to be said of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from pipeline.report.text import size
from pipeline.stage_results import DimensionCost, FileResult

WIDTH = 80
HEADINGS = ("format", "size", "lowest", "mean", "nearest", "spread", "ms", "fits")


def export_table(rows: Sequence[FileResult]) -> str:
    """Return a table of at most 80 columns, and below it the problems and notes of files.

    Lowest and mean are cosines to the model, nearest is the share of images whose nearest image is
    the same as by the model, spread is the variance of the embeddings as a share of the model's.
    """
    lines = _aligned([HEADINGS, *(_cells(row) for row in rows)])
    remarks = [(row, text) for row in rows for text in (*row.problems, row.note) if text]
    if remarks:
        lines.append("")
    for row, text in remarks:
        lines += textwrap.wrap(f"{row.name}: {text}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def dimensions_table(costs: Sequence[DimensionCost]) -> str:
    """Return a table of smaller embeddings, and their mAP if it was measured."""
    labelled = any(cost.mean_average_precision is not None for cost in costs)
    rows: list[tuple[str, ...]] = [
        ("dimensions", "nearest", "top 10", *(["mAP"] if labelled else []))
    ]
    for cost in costs:
        precision = cost.mean_average_precision
        measured = [] if precision is None else [f"{100 * precision:.2f}"]
        shares = (f"{100 * share:.1f}%" for share in (cost.same_nearest, cost.nearest_overlap))
        rows.append((str(cost.dimensions), *shares, *measured))
    return "\n".join(_aligned(rows))


def _cells(row: FileResult) -> tuple[str, ...]:
    name = row.exporter if row.batch is None else f"{row.exporter} b{row.batch}"
    latency = "-" if row.latency_ms is None else f"{row.latency_ms:.2f}"
    taken = size(row.bytes) if row.bytes else "-"
    fits = "no" if row.problems else "yes" if row.parity else "-"
    if row.parity is None:
        return (name, taken, "-", "-", "-", "-", latency, fits)
    parity = row.parity
    return (
        name,
        taken,
        f"{parity.lowest_cosine:.4f}",
        f"{parity.mean_cosine:.4f}",
        f"{100 * parity.same_nearest:.1f}%",
        f"{parity.spread / parity.model_spread:.2f}" if parity.model_spread else "-",
        latency,
        fits,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with columns two blanks apart; the first one is flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
