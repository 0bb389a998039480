"""A walking skeleton, and how a camera sees it.

Points of the body are (lateral, forward, up) as fractions of body height: lateral grows to the
person's own left, forward to where the person walks, up from the ground.
"""

from dataclasses import dataclass
from math import cos, hypot, pi, sin

import numpy as np

from reid_edge.data.synthetic.identity import Body

Point3 = tuple[float, float, float]
Point2 = tuple[float, float]

SHOULDER = 0.815
CHIN = 0.865
HEAD = 0.925
UPPER_ARM = 0.165
FOREARM = 0.20


@dataclass(frozen=True)
class View:
    """Where the person stands on the canvas and from which side the camera looks.

    Args:
        heading: in radians; 0 walks towards the camera, pi / 2 to the right, pi away from it.
        pitch: how far the camera looks down, in radians.
        pixels: body height on the canvas.
        centre: column of the body's axis.
        ground: row of the feet.
    """

    heading: float
    pitch: float
    pixels: float
    centre: float
    ground: float

    @property
    def frontal(self) -> float:
        """1 seen from the front, 0 from the side, -1 from behind."""
        return cos(self.heading)

    def nearness(self, point: Point3) -> float:
        """How much nearer to the camera than the body's axis, in body heights."""
        lateral, forward, _ = point
        return forward * cos(self.heading) - lateral * sin(self.heading)

    def project(self, point: Point3) -> Point2:
        """Column and row of a point of the body on the canvas."""
        lateral, forward, up = point
        right = lateral * cos(self.heading) + forward * sin(self.heading)
        height = up * cos(self.pitch) - self.nearness(point) * sin(self.pitch)
        return self.centre + right * self.pixels, self.ground - height * self.pixels

    def half_width(self, lateral: float, forward: float) -> float:
        """Half the seen width, in pixels, of an ellipse with these half axes."""
        return self.pixels * hypot(lateral * cos(self.heading), forward * sin(self.heading))


@dataclass(frozen=True)
class Gait:
    """A moment of walking; angles in radians."""

    phase: float
    stride: float
    left_elbow: float
    right_elbow: float


@dataclass(frozen=True)
class Leg:
    """The joints of a leg."""

    hip: Point3
    knee: Point3
    ankle: Point3
    toe: Point3


@dataclass(frozen=True)
class Arm:
    """The joints of an arm."""

    shoulder: Point3
    elbow: Point3
    hand: Point3


@dataclass(frozen=True)
class Skeleton:
    """The limbs, left and right."""

    legs: tuple[Leg, Leg]
    arms: tuple[Arm, Arm]


def draw_gait(rng: np.random.Generator) -> Gait:
    """Make up a moment of walking; some people stand, some hold something before them."""
    raised = rng.random(2) < 0.12
    elbows = np.where(raised, rng.uniform(1.5, 2.2, 2), rng.uniform(0.1, 0.6, 2))
    return Gait(
        phase=float(rng.uniform(0, 2 * pi)),
        stride=float(rng.uniform(0.15, 0.5)),
        left_elbow=float(elbows[0]),
        right_elbow=float(elbows[1]),
    )


def stand(body: Body, gait: Gait) -> Skeleton:
    """Place the limbs; the lower foot is on the ground."""
    legs = (_leg(body, gait, 1), _leg(body, gait, -1))
    arms = (_arm(body, gait, 1), _arm(body, gait, -1))
    return Skeleton(legs, arms)


def _swing(gait: Gait, side: int) -> float:
    return gait.stride * sin(gait.phase if side > 0 else gait.phase + pi)


def _leg(body: Body, gait: Gait, side: int) -> Leg:
    swing = _swing(gait, side)
    # The knee bends while the leg comes forward, which is a quarter of a step later.
    forward_speed = cos(gait.phase if side > 0 else gait.phase + pi)
    shin_angle = swing - 0.08 - 1.3 * gait.stride * max(0.0, forward_speed)
    thigh, shin = 0.5 * body.legs, 0.45 * body.legs
    hip = (side * 0.55 * body.hips, 0.0, body.legs)
    knee = (hip[0], thigh * sin(swing), hip[2] - thigh * cos(swing))
    ankle = (hip[0], knee[1] + shin * sin(shin_angle), knee[2] - shin * cos(shin_angle))
    toe = (ankle[0] * 1.25, ankle[1] + 0.085, max(0.012, ankle[2] - 0.03 + 0.3 * min(0, swing)))
    return Leg(hip, knee, ankle, toe)


def _arm(body: Body, gait: Gait, side: int) -> Arm:
    # Arms swing against the legs.
    swing = -0.8 * _swing(gait, side)
    bend = swing + (gait.left_elbow if side > 0 else gait.right_elbow)
    shoulder = (side * body.shoulders * 0.93, 0.0, SHOULDER - 0.022)
    elbow = (
        side * (body.shoulders + 0.02),
        UPPER_ARM * sin(swing),
        shoulder[2] - UPPER_ARM * cos(swing),
    )
    # A raised forearm turns inwards, as one that holds a telephone does.
    inward = 0.25 * max(0.0, bend - 1.0)
    hand = (
        elbow[0] - side * FOREARM * inward,
        elbow[1] + FOREARM * sin(bend),
        elbow[2] - FOREARM * cos(bend),
    )
    return Arm(shoulder, elbow, hand)
