"""Accuracy against latency as an image: where the page draws what."""

import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 16, 44
# Steps between the marks of a logarithmic axis.
STEPS = (1, 2, 5)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other one beats, from the fastest on.

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


def pareto_image(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Return the places of points, front and axes for the first timing of every row, in pixels."""
    rows = benchmark["rows"]
    timing = rows[0]["timings"][0]
    points = [(row["timings"][0]["median_ms"], 100 * row["mAP"]) for row in rows]
    across, up = _latency_axis([x for x, _ in points]), _accuracy_axis([y for _, y in points])
    best = front(points)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "batch": timing["batch"],
        "threads": timing["threads"],
        "latency_marks": [(_x(value, across), f"{value:g}") for value in _marks(*across)],
        "accuracy_marks": [(_y(value, up), f"{value:g}") for value in _round_values(*up)],
        "points": [
            {
                "name": row["name"],
                "x": _x(x, across),
                "y": _y(y, up),
                "latency_ms": x,
                "mAP": y,
                "best": index in best,
                # Text is on the side where there is room.
                "anchor": "end" if _x(x, across) > WIDTH / 2 else "start",
            }
            for index, (row, (x, y)) in enumerate(zip(rows, points, strict=True))
        ],
        "front": [(_x(points[i][0], across), _y(points[i][1], up)) for i in best],
    }


def _latency_axis(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.3, max(values) * 1.3


def _accuracy_axis(values: Sequence[float]) -> tuple[float, float]:
    margin = max(1.0, 0.15 * (max(values) - min(values)))
    return min(values) - margin, max(values) + margin


def _x(value: float, axis: tuple[float, float]) -> float:
    share = math.log(value / axis[0]) / math.log(axis[1] / axis[0])
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float, axis: tuple[float, float]) -> float:
    share = (value - axis[0]) / (axis[1] - axis[0])
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _marks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (step * 10.0**power for power in powers for step in STEPS)
    return [value for value in values if low <= value <= high]


def _round_values(low: float, high: float) -> list[float]:
    """Return three to seven round values between two others."""
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (power / 5, power / 2, power, 2 * power) if (high - low) / s <= 7)
    first = math.ceil(low / step)
    return [round(number * step, 6) for number in range(first, math.floor(high / step) + 1)]
