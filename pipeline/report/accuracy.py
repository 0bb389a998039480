"""Which measures of accuracy the tables show, by task."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

from reid_edge.data.schema import NO_CAMERAS

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], float | None]]

FALSE_ACCEPT_RATE = 1e-2
PROTOCOLS = {
    "market1501": "Market-1501 protocol",
    "single_gallery_shot": "classic CUHK03 protocol (one gallery image an identity)",
}


def accuracy_columns(task: str) -> list[Column]:
    """Return heading and value, between 0 and 1 or none, of the accuracy columns.

    Args:
        task: "person" or "face".
    """
    first = ("rank-1", _value("rank1"))
    if task == "face":
        return [
            ("EER", _value("EER")),
            (f"TAR@FAR {FALSE_ACCEPT_RATE:g}", _true_accept_rate),
            first,
        ]
    return [("mAP", _value("mAP")), first]


def further_columns() -> list[Column]:
    """Return the columns that only the page has room for."""
    return [("rank-5", _value("rank5")), ("rank-10", _value("rank10"))]


def percent(value: float | None) -> str:
    """Return a share for people."""
    return f"{value:.1%}" if value is not None else "-"


def _value(key: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(key)


def _true_accept_rate(row: Row) -> float | None:
    points = (row["verification"] or {}).get("operating_points", [])
    return next((p["true_accept_rate"] for p in points if p["target"] == FALSE_ACCEPT_RATE), None)


def verification_table(story: dict[str, Any]) -> Table | None:
    """Return EER and TAR@FAR of every stage with their thresholds, if any was measured."""
    rows = [row for row in story["rows"] if row["verification"]]
    if not rows:
        return None
    table = Table(title="Verification: rate, at threshold", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for heading in verification_headings(rows[0]):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["stage"], *verification_cells(row))
    return table


def verification_headings(row: Row) -> list[str]:
    """Return the headings of the cells."""
    points = row["verification"]["operating_points"]
    return ["EER", *(f"TAR@FAR {point['target']:g}" for point in points)]


def verification_cells(row: Row) -> list[str]:
    """Return each rate with its threshold, a cosine similarity; or why there is none."""
    result = row["verification"]
    return [
        f"{result['equal_error_rate']:.1%} at {result['equal_error_threshold']:.3f}",
        *(
            f"{point['true_accept_rate']:.1%} at {point['threshold']:.3f}"
            if point["threshold"] is not None
            else "-"
            for point in result["operating_points"]
        ),
    ]


def describe_accuracy(story: dict[str, Any]) -> str:
    """Return the line below the closing table: what was measured, on what."""
    on = f"{story['images']}, seed {story['seed']}"
    ranking = f"{story['distance']} distance, {PROTOCOLS[story['protocol']]}"
    if not story["has_cameras"]:
        ranking += f" ({NO_CAMERAS})"
    result = next((row["verification"] for row in story["rows"] if row["verification"]), None)
    if story["task"] != "face" or result is None:
        return f"accuracy: {ranking}, {on}"
    return (
        f"accuracy: cosine similarity of {result['genuine_pairs']:,} genuine and "
        f"{result['impostor_pairs']:,} impostor pairs {result['pairs']}; rank-1 by {ranking}; {on}"
    )
