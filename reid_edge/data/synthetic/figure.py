"""A whole person on the canvas: the parts, from the far ones to the near ones."""

from reid_edge.data.synthetic.bags import (
    paint_backpack,
    paint_hand_bag,
    paint_shoulder_bag,
    paint_straps,
)
from reid_edge.data.synthetic.canvas import Canvas, shaded
from reid_edge.data.synthetic.clothes import paint_front, paint_lower, paint_upper
from reid_edge.data.synthetic.head import paint_head
from reid_edge.data.synthetic.identity import Lower, Person, Upper
from reid_edge.data.synthetic.palette import scaled
from reid_edge.data.synthetic.pattern import Fill, cloth_fill
from reid_edge.data.synthetic.pose import SHOULDER, Arm, Gait, Leg, Point3, View, stand

# What is this much behind the body's axis, in body heights, is hidden by the body.
HIDDEN = -0.045


def paint_person(canvas: Canvas, person: Person, view: View, gait: Gait) -> None:
    """Paint a person.

    Args:
        canvas: what to paint on; the person may reach beyond it.
        person: who it is.
        view: where they stand and from where they are seen.
        gait: their step.
    """
    skeleton = stand(person.body, gait)
    upper = cloth_fill(person.upper_cloth, canvas.size, view.project((0, 0, SHOULDER)), view.pixels)
    lower = cloth_fill(
        person.lower_cloth, canvas.size, view.project((0, 0, person.body.legs)), view.pixels
    )
    arms = sorted(skeleton.arms, key=lambda arm: view.nearness(arm.elbow))
    far_arms = [arm for arm in arms if view.nearness(arm.elbow) < HIDDEN]

    if view.frontal > 0:
        paint_backpack(canvas, person, view)
    for arm in far_arms:
        _paint_arm(canvas, person, view, arm, shaded(upper, 0.78))
    if _bag_nearness(person, view) < 0:
        paint_shoulder_bag(canvas, person, view)
    legs = sorted(skeleton.legs, key=lambda leg: view.nearness(leg.hip) + view.nearness(leg.ankle))
    for leg, light in zip(legs, (0.80, 1.0), strict=True):
        _paint_leg(canvas, person, view, leg, shaded(lower, light))
    paint_lower(canvas, person, view, lower)
    paint_upper(canvas, person, view, upper)
    paint_front(canvas, person, view)
    paint_straps(canvas, person, view)
    if view.frontal <= 0:
        paint_backpack(canvas, person, view)
    if _bag_nearness(person, view) >= 0:
        paint_shoulder_bag(canvas, person, view)
    paint_head(canvas, person, view)
    for arm in arms:
        if arm not in far_arms:
            _paint_arm(canvas, person, view, arm, shaded(upper, 0.9))


def _bag_nearness(person: Person, view: View) -> float:
    return view.nearness((0.1 if person.bag_left else -0.1, 0.0, 0.0))


def _paint_leg(canvas: Canvas, person: Person, view: View, leg: Leg, cloth: Fill) -> None:
    build = person.body.build * view.pixels
    hip, knee, ankle, toe = (
        view.project(joint) for joint in (leg.hip, leg.knee, leg.ankle, leg.toe)
    )
    trousers = person.lower is Lower.TROUSERS and person.upper is not Upper.DRESS
    shorts = person.lower is Lower.SHORTS and person.upper is not Upper.DRESS
    skin: Fill = person.skin if shorts else person.legwear
    fabric = cloth if trousers else skin
    loose = 1.12 if trousers else 0.9
    canvas.limb(ankle, toe, (0.022 * view.pixels, 0.017 * view.pixels), person.shoes)
    canvas.limb(knee, ankle, (0.034 * loose * build, 0.023 * loose * build), fabric)
    canvas.limb(hip, knee, (0.050 * loose * build, 0.036 * loose * build), fabric)
    if shorts:
        hem = _between(leg.hip, leg.knee, 0.95)
        canvas.limb(hip, view.project(hem), (0.054 * build, 0.048 * build), cloth)


def _paint_arm(canvas: Canvas, person: Person, view: View, arm: Arm, cloth: Fill) -> None:
    build = person.body.build * view.pixels
    thick = 1.15 if person.upper in (Upper.JACKET, Upper.COAT) else 1.0
    shoulder, elbow, hand = (view.project(joint) for joint in (arm.shoulder, arm.elbow, arm.hand))
    skin: Fill = scaled(person.skin, 0.94)
    if person.bag_left == (arm.shoulder[0] > 0):
        paint_hand_bag(canvas, person, view, arm.hand)
    canvas.ellipse(hand, 0.019 * view.pixels, 0.022 * view.pixels, skin)
    long_sleeves = person.sleeve == 1.0
    fore_widths = (0.027 * thick * build, 0.020 * thick * build)
    canvas.limb(elbow, hand, fore_widths, cloth if long_sleeves else skin)
    upper_widths = (0.034 * thick * build, 0.027 * thick * build)
    canvas.limb(shoulder, elbow, upper_widths, cloth if long_sleeves else skin)
    if not long_sleeves:
        hem = view.project(_between(arm.shoulder, arm.elbow, 2 * person.sleeve))
        canvas.limb(shoulder, hem, (0.037 * build, 0.035 * build), cloth)


def _between(start: Point3, end: Point3, share: float) -> Point3:
    x, y, z = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return x, y, z
