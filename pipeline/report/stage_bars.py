"""Accuracy, size and latency of all stages as bars, and how the page names models and measures."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.report.contents import Report
from pipeline.report.text import size
from pipeline.stage_results import main_value
from reid_edge.metrics.results import Distance


@dataclass(frozen=True)
class Bar:
    """A value of a stage, as a bar beside those of the other stages.

    Attributes:
        text: the value in words; "-" where there is none.
        share: of the largest value, in per cent.
    """

    text: str
    share: float


@dataclass(frozen=True)
class StageBars:
    """A row of the picture of all stages.

    Attributes:
        stage: its name.
        model: name of its model.
        accuracy: its bar of accuracy.
        size: its bar of the file size.
        latency: its bar of the latency.
    """

    stage: str
    model: str
    accuracy: Bar
    size: Bar
    latency: Bar


def model_name(name: str) -> str:
    """Return the name of an architecture as papers write it."""
    if name.startswith("osnet_x"):
        width, *rest = name.removeprefix("osnet_x").split(" ")
        return " ".join([f"OSNet x{width.replace('_', '.')}", *rest])
    return name


def stage_bars(report: Report) -> tuple[StageBars, ...]:
    """Return the bars of all stages, in order."""
    accuracies = [
        main_value(row.model.metrics, report.task, shown_distance(report)) for row in report.rows
    ]
    best = max((value for value in accuracies if value is not None), default=1.0) or 1.0
    largest = max(row.model.bytes for row in report.rows) or 1
    times = [row.latency.median_ms if row.latency else None for row in report.rows]
    slowest = max((time for time in times if time is not None), default=1.0) or 1.0
    return tuple(
        StageBars(
            stage=row.stage,
            model=model_name(row.model.name),
            accuracy=_bar(value, best, f"{value or 0:.1%}"),
            size=_bar(row.model.bytes, largest, size(row.model.bytes)),
            latency=_bar(time, slowest, f"{time or 0:.1f} ms"),
        )
        for row, value, time in zip(report.rows, accuracies, times, strict=True)
    )


def _bar(value: float | None, largest: float, text: str) -> Bar:
    return Bar("-", 0.0) if value is None else Bar(text, round(100 * value / largest, 1))


def shown_distance(report: Report) -> Distance:
    """Return the distance that the accuracy of a run is shown for."""
    return "cosine" if report.distance == "cosine" else "euclidean"
