"""Which measures of accuracy the tables show, by task and by what is known of the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.stage_results import LIKE_TEACHER, headline
from reid_edge.core.tables import FittingTable
from reid_edge.data.schema import NO_CAMERAS

if TYPE_CHECKING:
    from pipeline.report.contents import Report, ReportRow
    from reid_edge.metrics.results import Distance, Evaluation, VerificationResult

    Column = tuple[str, Callable[[ReportRow], float | None]]

FALSE_ACCEPT_RATE = 1e-2
PROTOCOLS = {
    "market1501": "Market-1501 protocol",
    "single_gallery_shot": "classic CUHK03 protocol (one gallery image an identity)",
}


def accuracy_columns(task: str, measure: str = "") -> list[Column]:
    """Return heading and value, between 0 and 1 or none, of the accuracy columns.

    Args:
        task: "person" or "face".
        measure: by which models are compared; empty: that of the task.
    """

    def true_accept_rate(row: ReportRow) -> float | None:
        result = row.model.metrics.verification
        points = result.operating_points if result else ()
        return next((p.true_accept_rate for p in points if p.target == FALSE_ACCEPT_RATE), None)

    first = ("rank-1", _value("rank1"))
    if measure == LIKE_TEACHER:
        return [(name, _value(name)) for name in (LIKE_TEACHER, "same nearest")]
    if task == "face":
        return [
            ("EER", _value("EER")),
            (f"TAR@FAR {FALSE_ACCEPT_RATE:g}", true_accept_rate),
            first,
        ]
    return [("mAP", _value("mAP")), first]


def further_columns(report: Report) -> list[Column]:
    """Return the columns that only the page has room for."""
    if report.measure == LIKE_TEACHER:
        found = {name for row in report.rows for name in row.accuracy}
        names = [name for name in ("rank correlation", "cosine", "track mAP") if name in found]
        return [(name, _value(name)) for name in names]
    return [("rank-5", _value("rank5")), ("rank-10", _value("rank10"))]


def accuracy_cells(metrics: Evaluation, distance: Distance) -> list[tuple[str, float]]:
    """Return heading and value of what ranking measures."""
    ranks = {f"rank{rank}": f"rank-{rank}" for rank in (1, 5, 10)}
    values = headline(metrics, distance)
    return [(ranks.get(name, name), value) for name, value in values.items() if name != "EER"]


def percent(value: float | None) -> str:
    """Return a share for people."""
    return f"{value:.1%}" if value is not None else "-"


def _value(key: str) -> Callable[[ReportRow], float | None]:
    return lambda row: row.accuracy.get(key)


def verification_table(report: Report) -> FittingTable | None:
    """Return EER and TAR@FAR of every stage with their thresholds, if any was measured."""
    rows = [(row.stage, row.model.metrics.verification) for row in report.rows]
    measured = [(stage, result) for stage, result in rows if result is not None]
    if not measured:
        return None
    return FittingTable(
        "Verification: rate, at threshold",
        ["stage", *verification_headings(measured[0][1])],
        [(stage, *verification_cells(result)) for stage, result in measured],
    )


def verification_headings(result: VerificationResult) -> list[str]:
    """Return the headings of the cells."""
    return ["EER", *(f"TAR@FAR {point.target:g}" for point in result.operating_points)]


def verification_cells(result: VerificationResult) -> list[str]:
    """Return each rate with its threshold, a cosine similarity; or a dash where there is none."""
    return [
        f"{result.equal_error_rate:.1%} at {result.equal_error_threshold:.3f}",
        *(
            f"{point.true_accept_rate:.1%} at {point.threshold:.3f}"
            if point.threshold is not None
            else "-"
            for point in result.operating_points
        ),
    ]


def describe_accuracy(report: Report) -> str:
    """Return the line below the closing table: what was measured, on what."""
    on = f"{report.images}, seed {report.seed}"
    free = next((found for row in report.rows if (found := row.model.metrics.label_free)), None)
    if free is not None:
        tracks = ""
        if free.tracks is not None:
            tracks = (
                f"; track mAP: one half of each of {free.tracks.tracks:,} tracks finds the other"
            )
        return (
            "no identities, so no mAP: the values say how like its teacher a model is, "
            f"and not how well either tells people apart; {LIKE_TEACHER}: share of its ten nearest "
            f"images that are among the model's ten, of {free.images:,} images set apart{tracks}; "
            f"{on}"
        )
    ranking = f"{report.distance} distance, {PROTOCOLS[report.protocol]}"
    if not report.has_cameras:
        ranking += f" ({NO_CAMERAS})"
    metrics = [row.model.metrics for row in report.rows if row.model.metrics.verification]
    if report.task != "face" or not metrics:
        return f"accuracy: {ranking}, {on}"
    result = metrics[0].verification
    assert result is not None, "chosen so"
    return (
        f"accuracy: cosine similarity of {result.genuine_pairs:,} genuine and "
        f"{result.impostor_pairs:,} impostor pairs {metrics[0].pairs.which}; rank-1 by {ranking}; "
        f"{on}"
    )
