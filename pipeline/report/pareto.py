"""The chart of accuracy against latency: the coordinates of everything on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.stage_results import BenchmarkRow
from reid_edge.metrics.results import Distance

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 16, 44
# Steps between the marks of a logarithmic axis.
STEPS = (1, 2, 5)


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
        mAP: what ``y`` shows, in per cent.
        best: no other file beats it in both.
        anchor: on which side of the point its name ends or starts.
    """

    name: str
    x: float
    y: float
    latency_ms: float
    mAP: float  # noqa: N815 - the field's name for it
    best: bool
    anchor: str


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
    points = [
        (row.timings[0].median_ms, 100 * row.metrics.ranking[distance].mean_average_precision)
        for row in rows
    ]
    latencies, accuracies = [x for x, _ in points], [y for _, y in points]
    margin = max(1.0, 0.15 * (max(accuracies) - min(accuracies)))
    across = min(latencies) / 1.3, max(latencies) * 1.3
    up = min(accuracies) - margin, max(accuracies) + margin
    best = front(points)
    powers = range(math.floor(math.log10(across[0])), math.ceil(math.log10(across[1])) + 1)
    times = [step * 10.0**power for power in powers for step in STEPS]
    # Three to seven round values for the axis up.
    power = 10.0 ** math.floor(math.log10(up[1] - up[0]))
    steps = (power / 5, power / 2, power, 2 * power)
    step = next(step for step in steps if (up[1] - up[0]) / step <= 7)
    shares = range(math.ceil(up[0] / step), math.floor(up[1] / step) + 1)
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        batch=rows[0].timings[0].batch,
        threads=rows[0].timings[0].threads,
        latency_marks=tuple(
            (_x(value, across), f"{value:g}") for value in times if across[0] <= value <= across[1]
        ),
        accuracy_marks=tuple(
            (_y(value, up), f"{value:g}") for value in (round(n * step, 6) for n in shares)
        ),
        points=tuple(
            Point(
                name=row.name,
                x=_x(x, across),
                y=_y(y, up),
                latency_ms=x,
                mAP=y,
                best=index in best,
                # Text is on the side where there is room.
                anchor="end" if _x(x, across) > WIDTH / 2 else "start",
            )
            for index, (row, (x, y)) in enumerate(zip(rows, points, strict=True))
        ),
        front=tuple((_x(points[i][0], across), _y(points[i][1], up)) for i in best),
    )


def _x(value: float, axis: tuple[float, float]) -> float:
    share = math.log(value / axis[0]) / math.log(axis[1] / axis[0])
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float, axis: tuple[float, float]) -> float:
    share = (value - axis[0]) / (axis[1] - axis[0])
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)
