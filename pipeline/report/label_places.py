"""Places for the names of points in a chart, so that none covers another name or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

CHARACTER, LINE = 6.3, 13.0  # pixels of a character across, and of a line
POINT = 6.0  # pixels around a point that stay free
DISTANCES = (9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 155, 190, 230)
DIRECTIONS = 16
LEADER = 18.0  # a name that is farther away gets a line to its point


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels.

    Attributes:
        left: edge.
        top: edge.
        right: edge.
        bottom: edge.
    """

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Return whether both have a pixel in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def distance(self, point: tuple[float, float]) -> float:
        """Return how far a point is from the nearest edge, in pixels; 0 inside."""
        x, y = point
        across = max(self.left - x, 0, x - self.right)
        down = max(self.top - y, 0, y - self.bottom)
        return math.hypot(across, down)

    def inside(self, other: Box) -> bool:
        """Return whether nothing of this one is outside the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class LabelPlace:
    """Where a name is written.

    Attributes:
        box: what it takes.
        leader: end of the line from the point to the name; None if the name is beside its point.
    """

    box: Box
    leader: tuple[float, float] | None


def place_labels(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    area: Box,
    line: Sequence[tuple[float, float]] = (),
) -> list[LabelPlace | None]:
    """Return a place for each name, the nearest to its point that is free.

    Args:
        points: (across, down) in pixels.
        names: of the points.
        area: that the names stay inside.
        line: corners of a line that no name covers.

    Returns:
        None for a name that there is no room for.
    """
    taken = [Box(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points]
    for (x, y), (to_x, to_y) in pairwise(line):
        steps = 1 + int(math.hypot(to_x - x, to_y - y) / 4)
        for step in range(steps + 1):
            across, down = x + (to_x - x) * step / steps, y + (to_y - y) * step / steps
            taken.append(Box(across - 2, down - 2, across + 2, down + 2))
    places: list[LabelPlace | None] = []
    for number, (point, name) in enumerate(zip(points, names, strict=True)):
        others = [other for index, other in enumerate(points) if index != number]
        width = CHARACTER * len(name)
        # A name must not seem to be that of another point, or it gets a line to its own.
        place = _nearest_free(point, width, area, taken, others)
        if place is None:
            place = _nearest_free(point, width, area, taken, [])
        places.append(place)
        if place is not None:
            taken.append(place.box)
    return places


def _nearest_free(
    point: tuple[float, float],
    width: float,
    area: Box,
    taken: Sequence[Box],
    others: Sequence[tuple[float, float]],
) -> LabelPlace | None:
    x, y = point
    for distance in DISTANCES:
        for number in range(DIRECTIONS):
            # Right, left, then in between: a name at the side of its point reads best.
            turn = (number // 2 + (number % 2) * DIRECTIONS / 2) * 2 * math.pi / DIRECTIONS
            across, down = math.cos(turn), math.sin(turn)
            middle = y + distance * down
            start = x + distance * across - (width if across < 0 else 0)
            box = Box(start, middle - LINE / 2, start + width, middle + LINE / 2)
            if not box.inside(area) or any(box.overlaps(other) for other in taken):
                continue
            beside = distance <= LEADER
            if beside and any(box.distance(other) < 2 * box.distance(point) for other in others):
                continue
            end = (round(min(max(x, box.left), box.right), 1), round(middle, 1))
            return LabelPlace(box, None if beside else end)
    return None
