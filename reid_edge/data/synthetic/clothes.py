"""The garments of trunk and hips."""

from reid_edge.data.synthetic.canvas import Canvas, shaded
from reid_edge.data.synthetic.identity import Body, Lower, Person, Upper
from reid_edge.data.synthetic.palette import scaled
from reid_edge.data.synthetic.pattern import Fill
from reid_edge.data.synthetic.pose import SHOULDER, Point2, View

# One slice of a garment: height, half axes lateral and forward, as fractions of body height.
Slice = tuple[float, float, float]
# How far before the body's axis the chest is.
CHEST = 0.062
VOLUME = {Upper.JACKET: 1.09, Upper.COAT: 1.12}


def paint_upper(canvas: Canvas, person: Person, view: View, fill: Fill) -> None:
    """Paint the garment of the trunk, down to its hem."""
    body, volume = person.body, VOLUME.get(person.upper, 1.0)
    wide, deep = volume * body.build**0.5, volume * body.build
    trunk = [
        (SHOULDER + 0.028, 0.034, 0.034),
        (SHOULDER + 0.008, 0.74 * body.shoulders * wide, 0.045),
        (SHOULDER - 0.020, 0.97 * body.shoulders * wide, 0.055),
        (0.72, 0.88 * body.shoulders * wide, 0.066 * deep),
        (0.61, 0.86 * body.hips * deep, 0.062 * deep),
        (0.50, 1.02 * body.hips * deep, 0.070 * deep),
    ]
    slices = [part for part in trunk if part[0] > person.upper_hem]
    slices.append(_skirt_slice(body, person.upper_hem, person.upper is Upper.DRESS))
    # A thin darker rim sets the trunk off from arms and legs of the same colour.
    canvas.polygon(_outline(slices, view, 1.03), shaded(fill, 0.85))
    canvas.polygon(_outline(slices, view, 0.95), fill)


def paint_lower(canvas: Canvas, person: Person, view: View, fill: Fill) -> None:
    """Paint the seat of trousers and shorts, or the skirt."""
    if person.upper is Upper.DRESS:
        return
    body = person.body
    hips = (body.legs + 0.08, 0.9 * body.hips * body.build, 0.065 * body.build)
    if person.lower is Lower.SKIRT:
        slices = [hips, _skirt_slice(body, person.lower_hem, True)]
    else:
        seat = (body.legs - 0.035, body.hips * body.build, 0.072 * body.build)
        slices = [hips, seat]
    canvas.polygon(_outline(slices, view, 1.0), fill)


def paint_front(canvas: Canvas, person: Person, view: View) -> None:
    """Paint what only the front shows: the neck's opening, the open jacket, the print."""
    if view.frontal < 0.12:
        return
    if person.inner is not None:
        hem = max(person.upper_hem, person.body.legs - 0.02)
        _panel(canvas, view, 0.026, (SHOULDER + 0.02, hem), person.inner)
        if hem > person.upper_hem:
            _panel(canvas, view, 0.012, (hem, person.upper_hem), scaled(person.inner, 0.4))
    opening = [(-0.026, CHEST * 0.5, SHOULDER + 0.02), (0.026, CHEST * 0.5, SHOULDER + 0.02)]
    canvas.polygon(
        [view.project(p) for p in [*opening, (0.0, CHEST, SHOULDER - 0.025)]], person.skin
    )
    if person.logo is not None:
        middle = 0.70
        span = (middle + person.logo.height / 2, middle - person.logo.height / 2)
        _panel(canvas, view, person.logo.width / 2, span, person.logo.colour)


def _panel(canvas: Canvas, view: View, half: float, span: tuple[float, float], fill: Fill) -> None:
    corners = [(-half, span[0]), (half, span[0]), (half, span[1]), (-half, span[1])]
    canvas.polygon([view.project((lateral, CHEST, up)) for lateral, up in corners], fill)


def _skirt_slice(body: Body, hem: float, flared: bool) -> Slice:
    """The lowest slice of anything that hangs from the hips."""
    fall = max(0.0, 0.5 - hem)
    lateral = 1.04 * body.hips * body.build + (0.20 if flared else 0.06) * fall
    return hem, lateral, 0.072 * body.build + (0.22 if flared else 0.12) * fall


def _outline(slices: list[Slice], view: View, widen: float) -> list[Point2]:
    left: list[Point2] = []
    right: list[Point2] = []
    for up, lateral, forward in slices:
        column, row = view.project((0.0, 0.0, up))
        half = widen * view.half_width(lateral, forward)
        left.append((column - half, row))
        right.append((column + half, row))
    return left + right[::-1]
