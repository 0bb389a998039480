"""Axes of the charts: from values to pixels, and the values that are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Steps between the marks of a logarithmic axis.
STEPS = (1, 2, 5)
MOST_MARKS = 7


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: place in pixels.
        end: place in pixels; it may be below ``start``, as of an axis that points up.
        logarithmic: whether equal ratios are equal distances; both values are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value, in pixels."""
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def marks(self) -> tuple[tuple[float, str], ...]:
        """Return place and text of each round value on the axis."""
        return tuple((self.place(value), f"{value:g}") for value in self._round_values())

    def _round_values(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            # Over many decades only the powers of ten.
            steps = STEPS if len(powers) <= 6 else (1,)
            values = [step * 10.0**power for power in powers for step in steps]
            return [value for value in values if self.low <= value <= self.high]
        extent = self.high - self.low
        power = 10.0 ** math.floor(math.log10(extent))
        steps_up = (power / 5, power / 2, power, 2 * power)
        step = next(step for step in steps_up if extent / step <= MOST_MARKS)
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [round(number * step, 12) for number in numbers]


def axis_around(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    logarithmic: bool = False,
    from_zero: bool = False,
    margin: float = 0.08,
    least: float = 1e-6,
) -> Axis:
    """Return an axis that shows all values.

    Args:
        values: to be shown; at least one.
        start: place of the lowest value, in pixels.
        end: place of the highest value.
        logarithmic: see :class:`Axis`; values that are not above 0 are left out.
        from_zero: whether the axis begins at 0.
        margin: room beyond the values, as a share of their extent; on a logarithmic axis as a
            share of the value.
        least: smallest room beyond the values.
    """
    found = [value for value in values if not logarithmic or value > 0] or [1.0]
    low, high = min(found), max(found)
    if logarithmic:
        return Axis(low / (1 + margin), high * (1 + margin), start, end, logarithmic=True)
    room = max(margin * (high - low), least)
    return Axis(0.0 if from_zero and low >= 0 else low - room, high + room, start, end)
