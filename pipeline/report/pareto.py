"""The chart of accuracy against latency: the coordinates of everything on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.axes import axis_around
from pipeline.report.label_places import Box, LabelPlace, place_labels
from pipeline.stage_results import BenchmarkRow, main_measure, main_value
from reid_edge.metrics.results import Distance

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 16, 44
MARGIN = 0.3  # of the axis of latencies


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other point beats, the fastest first.

    Args:
        points: (latency, accuracy). A point is beaten by one that is as fast and as accurate, and
            better in one of the two; of equal points the first counts.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    found: list[int] = []
    for index in order:
        if not found or points[index][1] > points[found[-1]][1]:
            found.append(index)
    return found


@dataclass(frozen=True)
class Point:
    """A file in the chart.

    Attributes:
        name: of the file.
        x: place across, in pixels.
        y: place down, in pixels.
        latency_ms: what ``x`` shows.
        accuracy: what ``y`` shows, in per cent.
        best: no other file beats it in both.
        label: where its name is written; None if there is no room.
    """

    name: str
    x: float
    y: float
    latency_ms: float
    accuracy: float
    best: bool
    label: LabelPlace | None


@dataclass(frozen=True)
class Chart:
    """Accuracy against latency, in pixels.

    Attributes:
        width: of the chart.
        height: of the chart.
        left: of the axes; the next three likewise.
        right: edge.
        top: edge.
        bottom: edge.
        measure: of the accuracy.
        batch: images in a call.
        threads: of a call.
        latency_marks: place and text of each mark of the axis across.
        accuracy_marks: place and text of each mark of the axis up.
        points: one a file.
        front: places of the files that no other one beats, from the fastest on.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    measure: str
    batch: int
    threads: int
    latency_marks: tuple[tuple[float, str], ...]
    accuracy_marks: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...]


def pareto_chart(rows: Sequence[BenchmarkRow], distance: Distance) -> Chart:
    """Return where points, front and axes are for the first timing of every row.

    Args:
        rows: of the benchmark.
        distance: that the accuracy is shown for.
    """
    return chart_of(
        [
            (
                row.name,
                row.timings[0].median_ms,
                100 * (main_value(row.metrics, "person", distance) or 0),
            )
            for row in rows
        ],
        measure=main_measure(rows[0].metrics, "person"),
        batch=rows[0].timings[0].batch,
        threads=rows[0].timings[0].threads,
    )


def chart_of(
    files: Sequence[tuple[str, float, float]], *, measure: str, batch: int, threads: int
) -> Chart:
    """Return where points, their names, front and axes are.

    Args:
        files: name, latency in ms and accuracy in per cent.
        measure: of the accuracy.
        batch: images in a call.
        threads: of a call.
    """
    points = [(latency, accuracy) for _, latency, accuracy in files]
    across = axis_around(
        [x for x, _ in points], LEFT, WIDTH - RIGHT, logarithmic=True, margin=MARGIN
    )
    up = axis_around([y for _, y in points], HEIGHT - BOTTOM, TOP, margin=0.15, least=1.0)
    best = front(points)
    places = [(across.place(x), up.place(y)) for x, y in points]
    labels = place_labels(
        places,
        [name for name, *_ in files],
        Box(LEFT, 0, WIDTH, HEIGHT - BOTTOM),
        line=[places[i] for i in best],
    )
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        measure=measure,
        batch=batch,
        threads=threads,
        latency_marks=across.marks(),
        accuracy_marks=up.marks(),
        points=tuple(
            Point(
                name=name,
                x=place[0],
                y=place[1],
                latency_ms=latency,
                accuracy=accuracy,
                best=index in best,
                label=label,
            )
            for index, ((name, latency, accuracy), place, label) in enumerate(
                zip(files, places, labels, strict=True)
            )
        ),
        front=tuple(places[i] for i in best),
    )
