"""Neck, face, hair and hat."""

from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.identity import Hair, Hat, Person
from reid_edge.data.synthetic.palette import Colour, scaled
from reid_edge.data.synthetic.pose import CHIN, HEAD, SHOULDER, Point3, View

# Height above the ground where hair ends that falls from the head.
HAIR_END = {Hair.CHIN: 0.845, Hair.LONG: 0.745}


def paint_head(canvas: Canvas, person: Person, view: View) -> None:
    """Paint the head; from behind there is hair where from the front there is a face."""
    facing = view.frontal > 0
    if facing:
        _falling_hair(canvas, person, view)
        _tail(canvas, person, view)
    neck = 0.027 * view.pixels
    shade = scaled(person.skin, 0.82)
    canvas.limb(
        view.project((0, 0, SHOULDER + 0.01)), view.project((0, 0.006, CHIN)), (neck, neck), shade
    )
    _oval(canvas, view, (0.0, 0.010, HEAD - 0.008), (0.044, 0.052, 0.060), person.skin)
    if person.hair is not Hair.BALD:
        _oval(canvas, view, (0.0, -0.020, HEAD + 0.012), (0.049, 0.050, 0.062), person.hair_colour)
        if view.frontal > -0.3:
            # The face again, lower, so that the hair ends at a hairline.
            low = 0.016 if view.frontal > 0.3 else 0.012
            _oval(canvas, view, (0.0, 0.030, HEAD - low), (0.039, 0.036, 0.052), person.skin)
    if view.frontal >= 0.3:
        size = 0.006 * view.pixels
        for side in (-0.018, 0.018):
            eye = view.project((side, 0.05, HEAD + 0.003))
            canvas.ellipse(eye, size * 1.3, size, (52, 40, 36))
    if not facing:
        _falling_hair(canvas, person, view)
        _tail(canvas, person, view)
    if person.hat is Hat.BEANIE:
        _oval(canvas, view, (0.0, -0.006, HEAD + 0.040), (0.050, 0.056, 0.045), person.hat_colour)
    elif person.hat is not Hat.NONE:
        _oval(canvas, view, (0.0, -0.004, HEAD + 0.044), (0.050, 0.058, 0.036), person.hat_colour)
        if view.frontal > -0.5:
            start = view.project((0, 0.045, HEAD + 0.028))
            end = view.project((0, 0.095, HEAD + 0.022))
            brim = (0.028 * view.pixels, 0.018 * view.pixels)
            canvas.limb(start, end, brim, scaled(person.hat_colour, 0.8))


def _oval(
    canvas: Canvas, view: View, middle: Point3, half: tuple[float, float, float], colour: Colour
) -> None:
    wide = view.half_width(half[0], half[1])
    canvas.ellipse(view.project(middle), wide, half[2] * view.pixels, colour)


def _falling_hair(canvas: Canvas, person: Person, view: View) -> None:
    end = HAIR_END.get(person.hair)
    if end is None:
        return
    column, top = view.project((0.0, -0.025, HEAD + 0.01))
    low_column, low = view.project((0.0, -0.040, end))
    wide = view.half_width(0.052, 0.042)
    canvas.polygon(
        [
            (column - wide, top),
            (column + wide, top),
            (low_column + 1.08 * wide, low),
            (low_column - 1.08 * wide, low),
        ],
        person.hair_colour,
    )


def _tail(canvas: Canvas, person: Person, view: View) -> None:
    if person.hair is not Hair.TAIL:
        return
    widths = (0.020 * view.pixels, 0.012 * view.pixels)
    start, end = view.project((0, -0.062, HEAD + 0.02)), view.project((0, -0.088, 0.80))
    canvas.limb(start, end, widths, scaled(person.hair_colour, 1.15))
