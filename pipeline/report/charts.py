"""Charts of the page as SVG: lines and points over two axes, a heat map, and their words.

The colours are variables of the page's style sheet, so that a chart follows light and dark, and
every value is in a ``<title>``, which the page shows on hover. A library that draws on the server
(Vega-Lite through ``vl-convert-python``) ships a JavaScript engine of 33 MB for that, and
its images have fixed colours and no values on hover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite

from markupsafe import Markup, escape

from pipeline.report.axes import Axis, axis_around

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 84, 20, 14, 48
COLOURS = 6  # of the style sheet; the dashes of the lines differ beyond them
HEAT_CELL, HEAT_ROW, HEAT_LEFT = 14.0, 22.0, 90.0


@dataclass(frozen=True)
class Value:
    """A point of a series.

    Attributes:
        x: across.
        y: up.
        text: what is shown on hover.
    """

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Series:
    """Values that belong together, with the name of the legend.

    Attributes:
        name: in the legend.
        values: in order.
        line: whether they are joined.
        points: whether they are marked.
        steps: whether the line goes on at the height of a value until the next one.
    """

    name: str
    values: Sequence[Value]
    line: bool = True
    points: bool = True
    steps: bool = False


def chart(
    title: str,
    series: Sequence[Series],
    *,
    across: str,
    up: str,
    categories: Sequence[str] = (),
    logarithmic: bool = False,
    from_zero: bool = False,
    limits: Sequence[tuple[float, str]] = (),
    height: int = HEIGHT,
) -> Markup:
    """Return values over two axes.

    Args:
        title: what it shows, in words, for a reader that does not see it.
        series: one colour each; values that are no number, and empty series, are left out.
        across: what the horizontal axis is.
        up: what the vertical axis is.
        categories: names of the places 0, 1, ... across; none: numbers.
        logarithmic: whether the vertical axis is.
        from_zero: whether the vertical axis begins at 0.
        limits: vertical lines, as place across and words.
        height: in pixels.
    """
    finite = [
        replace(one, values=[value for value in one.values if isfinite(value.y)]) for one in series
    ]
    drawn = [one for one in finite if one.values]
    if not drawn:
        return Markup("")
    values = [value for one in drawn for value in one.values]
    places = [value.x for value in values] + [place for place, _ in limits]
    if categories:
        horizontal = Axis(-0.3, len(categories) - 0.7, LEFT, WIDTH - RIGHT)
        marks = tuple((horizontal.place(n), name) for n, name in enumerate(categories))
    else:
        horizontal = axis_around(places, LEFT, WIDTH - RIGHT, margin=0.02, least=0.02)
        marks = horizontal.marks()
    vertical = axis_around(
        [value.y for value in values], height - BOTTOM, TOP,
        logarithmic=logarithmic, from_zero=from_zero,
    )  # fmt: skip
    parts = [_grid(horizontal, vertical, marks, across, up, height)]
    for place, words in limits:
        x = horizontal.place(place)
        parts.append(
            Markup('<g><line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="limit"/>'
                   "<title>{3}</title></g>").format(x, TOP, height - BOTTOM, words)
        )  # fmt: skip
    for number, one in enumerate(drawn):
        parts.append(_series(one, number, horizontal, vertical))
    legend = _legend(drawn) if len(drawn) > 1 else Markup("")
    return _figure(title, WIDTH, height, Markup("").join(parts), legend)


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]],
    words: str,
) -> Markup:  # fmt: skip
    """Return a cell for each row and column, the darker the larger its share.

    Args:
        title: what it shows, in words.
        rows: names, shown on the left.
        columns: names, shown on hover.
        shares: between 0 and 1, by row and column.
        words: what a share is, such as "removed".
    """
    cell = min(HEAT_CELL, max(3.0, (WIDTH - HEAT_LEFT - RIGHT) / max(len(columns), 1)))
    width = round(HEAT_LEFT + cell * len(columns) + RIGHT)
    parts = []
    for row, (name, line) in enumerate(zip(rows, shares, strict=True)):
        y = 4 + row * HEAT_ROW
        parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            HEAT_LEFT - 8, y + 15, name))  # fmt: skip
        for column, (layer, share) in enumerate(zip(columns, line, strict=True)):
            x, opacity = round(HEAT_LEFT + column * cell, 1), round(0.06 + 0.94 * share, 2)
            parts.append(
                Markup('<rect x="{}" y="{}" width="{}" height="{}" class="cell" fill-opacity="{}">'
                       "<title>{}, {}: {:.0%} {}</title></rect>")
                .format(x, y, round(cell - 0.5, 1), HEAT_ROW - 2, opacity, layer, name, share,
                        words)
            )  # fmt: skip
    height = round(8 + HEAT_ROW * len(rows))
    return _figure(title, max(width, 240), height, Markup("").join(parts), Markup(""))


def _figure(title: str, width: int, height: int, content: Markup, legend: Markup) -> Markup:
    """Return the drawing, which scrolls where it is wider than the page, and its legend."""
    return Markup(
        '<figure class="chart">'
        '<div class="scroll plain" role="group" aria-label="{0}" tabindex="0">'
        '<svg viewBox="0 0 {1} {2}" role="img" aria-label="{0}" class="image">{3}</svg></div>{4}'
        "</figure>"
    ).format(title, width, height, content, legend)


def _grid(
    horizontal: Axis,
    vertical: Axis,
    marks: Sequence[tuple[float, str]],
    across: str,
    up: str,
    height: int,
) -> Markup:
    bottom = height - BOTTOM
    parts = [
        Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" class="grid"/>'
               '<text x="{0}" y="{3}" text-anchor="middle">{4}</text>')
        .format(x, TOP, bottom, bottom + 16, text)
        for x, text in marks
    ]  # fmt: skip
    parts += [
        Markup('<line x1="{0}" x2="{1}" y1="{2}" y2="{2}" class="grid"/>'
               '<text x="{3}" y="{4}" text-anchor="end">{5}</text>')
        .format(horizontal.start, horizontal.end, y, horizontal.start - 6, y + 4, text)
        for y, text in vertical.marks()
    ]  # fmt: skip
    middle = (horizontal.start + horizontal.end) / 2
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle" class="axis">{}</text>')
                 .format(middle, height - 8, across))  # fmt: skip
    parts.append(
        Markup('<text transform="translate(13 {}) rotate(-90)" text-anchor="middle" class="axis">'
               "{}</text>").format((TOP + bottom) / 2, up)
    )  # fmt: skip
    return Markup("").join(parts)


def _series(series: Series, number: int, horizontal: Axis, vertical: Axis) -> Markup:
    shown = [value for value in series.values if not vertical.logarithmic or value.y > 0]
    places = [(horizontal.place(value.x), vertical.place(value.y)) for value in shown]
    style = f"c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")
    parts = []
    if series.line and places:
        corners = places
        if series.steps:
            after = [(x, y) for (_, y), (x, _) in pairwise(places)]
            corners = [places[0]]
            for corner, place in zip(after, places[1:], strict=True):
                corners += [corner, place]
        path = " ".join(f"{x:g},{y:g}" for x, y in corners)
        parts.append(Markup('<polyline points="{}" class="line {}"/>').format(path, style))
    for (x, y), value in zip(places, shown, strict=True):
        # A line of no length has round ends, which are a disc; the wide one is not seen.
        dot = Markup('<path d="M{} {}h0" class="dot"/>').format(x, y) if series.points else ""
        parts.append(
            Markup('<g class="mark {}">{}<path d="M{} {}h0" class="touch"/><title>{}</title></g>')
            .format(style, dot, x, y, value.text)
        )  # fmt: skip
    return Markup("").join(parts)


def _legend(series: Sequence[Series]) -> Markup:
    items = [
        Markup('<li><i class="swatch c{}{}"></i>{}</li>').format(
            number % COLOURS, " dashed" if number >= COLOURS else "", escape(one.name)
        )
        for number, one in enumerate(series)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
