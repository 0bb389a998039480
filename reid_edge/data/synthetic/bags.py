"""Backpacks, shoulder bags and hand bags."""

from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.identity import Bag, Person
from reid_edge.data.synthetic.palette import Colour, scaled
from reid_edge.data.synthetic.pose import SHOULDER, Point3, View


def paint_backpack(canvas: Canvas, person: Person, view: View) -> None:
    """Paint the backpack's body, if there is one; from the front it peeps out at the sides."""
    if person.bag is not Bag.BACKPACK:
        return
    size = person.bag_size
    middle, pocket = (0.0, -0.108, 0.695), (0.0, -0.125, 0.655)
    _box(canvas, view, middle, (0.082 * size, 0.052 * size, 0.115 * size), person.bag_colour)
    if view.frontal <= 0:
        dark = scaled(person.bag_colour, 0.72)
        _box(canvas, view, pocket, (0.055 * size, 0.045 * size, 0.05 * size), dark)


def paint_straps(canvas: Canvas, person: Person, view: View) -> None:
    """Paint the straps on the trunk: a backpack's in front, a shoulder bag's all around."""
    if person.bag is Bag.BACKPACK and view.frontal > -0.15:
        for side in (-1, 1):
            top, low = (side * 0.062, 0.035, SHOULDER + 0.008), (side * 0.078, 0.05, 0.64)
            _strap(canvas, view, top, low, person.bag_colour)
    elif person.bag is Bag.SHOULDER:
        side = 1 if person.bag_left else -1
        surface = 0.06 if view.frontal > 0 else -0.06
        top, low = (-side * 0.06, surface * 0.5, SHOULDER + 0.008), (side * 0.09, surface, 0.53)
        _strap(canvas, view, top, low, scaled(person.bag_colour, 0.85))


def paint_shoulder_bag(canvas: Canvas, person: Person, view: View) -> None:
    """Paint a bag on the hip, without its strap."""
    if person.bag is not Bag.SHOULDER:
        return
    side = 1 if person.bag_left else -1
    half = (0.028 * person.bag_size, 0.075 * person.bag_size, 0.058 * person.bag_size)
    _box(canvas, view, (side * 0.125, -0.01, 0.485), half, person.bag_colour)


def paint_hand_bag(canvas: Canvas, person: Person, view: View, hand: Point3) -> None:
    """Paint a bag that hangs from a hand."""
    if person.bag is not Bag.HAND:
        return
    half = (0.024 * person.bag_size, 0.064 * person.bag_size, 0.06 * person.bag_size)
    middle = (hand[0], hand[1], hand[2] - 0.035 - half[2])
    width = 0.006 * view.pixels
    canvas.limb(view.project(hand), view.project(middle), (width, width), person.bag_colour)
    _box(canvas, view, middle, half, person.bag_colour)


def _strap(canvas: Canvas, view: View, top: Point3, low: Point3, colour: Colour) -> None:
    width = 0.0105 * view.pixels
    canvas.limb(view.project(top), view.project(low), (width, width), colour)


def _box(
    canvas: Canvas, view: View, middle: Point3, half: tuple[float, float, float], colour: Colour
) -> None:
    """A box with cut corners; ``half`` is lateral, forward, up."""
    column, row = view.project(middle)
    wide, tall = view.half_width(half[0], half[1]), half[2] * view.pixels
    corners = (
        (-1, -0.7),
        (-0.7, -1),
        (0.7, -1),
        (1, -0.7),
        (1, 0.85),
        (0.85, 1),
        (-0.85, 1),
        (-1, 0.85),
    )
    canvas.polygon([(column + x * wide, row + y * tall) for x, y in corners], colour)
