"""Where a person is at any moment: walks past a camera, on a ground seen in perspective.

Lengths are body heights. The camera is at the origin and looks along the depth; across grows to its
right. A walk begins and ends out of sight.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, hypot, pi

import numpy as np

from reid_edge.data.synthetic.mot_settings import MotSettings

# Depths that people walk at, and the depth where a body is half as high as the frame.
NEAR, FAR = 4.0, 6.4
HALF_HEIGHT_DEPTH = 4.4
# Of walking: body heights a second, and radians of the gait for each body height.
SPEED = 0.8
STEPS = 2 * pi / 0.85


@dataclass(frozen=True)
class Ground:
    """How a point of the ground is seen in a frame.

    Args:
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        focal: pixels of a body at depth 1.
        horizon: row of the horizon.
        camera_height: in body heights.
    """

    width: int
    height: int
    focal: float
    horizon: float
    camera_height: float

    def body(self, depth: float) -> float:
        """Return the height of a body in pixels."""
        return self.focal / depth

    def column(self, across: float, depth: float) -> float:
        """Return the column of a point."""
        return self.width / 2 + across * self.body(depth)

    def row(self, depth: float) -> float:
        """Return the row of the ground."""
        return self.horizon + self.camera_height * self.body(depth)

    def border(self, depth: float) -> float:
        """Return how far to the side a person has to be so that nothing of them is seen."""
        return 0.5 * self.width / self.body(depth) + 0.6


def make_ground(width: int, height: int) -> Ground:
    """Return the ground of a frame: a near person stands at its lower border."""
    focal = 0.5 * height * HALF_HEIGHT_DEPTH
    camera_height = 1.65
    horizon = 0.985 * height - camera_height * focal / NEAR
    return Ground(width, height, focal, horizon, camera_height)


@dataclass(frozen=True)
class Moment:
    """A person at one moment.

    Args:
        across: place, to the right.
        depth: place, away from the camera.
        heading: as the camera sees it; see ``View``.
        phase: of the gait, in radians.
        walks: or stands.
    """

    across: float
    depth: float
    heading: float
    phase: float
    walks: bool


@dataclass(frozen=True)
class Segment:
    """A straight part of a walk, or a pause where start and end are one place.

    Args:
        begin: second when it begins.
        end: second when it ends.
        start: across and depth.
        stop: across and depth.
        phase: of the gait when it begins.
    """

    begin: float
    end: float
    start: tuple[float, float]
    stop: tuple[float, float]
    phase: float

    def at(self, second: float) -> Moment:
        """Return the moment at a second of this segment."""
        share = (second - self.begin) / (self.end - self.begin)
        (x0, z0), (x1, z1) = self.start, self.stop
        across, depth = x0 + share * (x1 - x0), z0 + share * (z1 - z0)
        length = hypot(x1 - x0, z1 - z0)
        # Who stands looks at the camera.
        heading = atan2(x1 - x0, z0 - z1) if length else 0.0
        seen = heading + atan2(across, depth)
        return Moment(across, depth, seen, self.phase + STEPS * share * length, length > 0)


@dataclass(frozen=True)
class Walk:
    """All that one person does before one camera: segments in the order of time, with gaps."""

    segments: tuple[Segment, ...]

    def at(self, second: float) -> Moment | None:
        """Return where the person is; None while they are away."""
        place = bisect_right([segment.begin for segment in self.segments], second) - 1
        if place < 0 or second >= self.segments[place].end:
            return None
        return self.segments[place].at(second)


def draw_walk(rng: np.random.Generator, ground: Ground, settings: MotSettings) -> Walk:
    """Make up a walk that lasts as long as a sequence.

    A person crosses, or turns round on the way, or stands for a while, goes out of sight on either
    side, and comes back after some seconds.
    """
    length = settings.frames / settings.frame_rate
    speed = SPEED * float(np.exp(rng.normal(0, 0.15)))
    # Some are there from the beginning.
    second = float(rng.uniform(-8, 0.4 * length))
    side = 1 if rng.random() < 0.5 else -1
    segments: list[Segment] = []
    while second < length:
        depth = float(rng.uniform(NEAR, FAR))
        places = [(side * ground.border(depth), depth)]
        turns = int(rng.choice(3, p=(0.5, 0.35, 0.15)))
        for _ in range(turns):
            depth = float(rng.uniform(NEAR, FAR))
            places.append((float(rng.uniform(-0.7, 0.7)) * ground.border(depth), depth))
        side = side if rng.random() < (0.7 if turns else 0.0) else -side
        depth = float(np.clip(depth + rng.normal(0, 0.5), NEAR, FAR))
        places.append((side * ground.border(depth), depth))
        phase = float(rng.uniform(0, 2 * pi))
        for number, (start, stop) in enumerate(pairwise(places)):
            if number and rng.random() < 0.4:  # a pause
                pause = float(rng.uniform(1, 4))
                segments.append(Segment(second, second + pause, start, start, phase))
                second += pause
            far = hypot(stop[0] - start[0], stop[1] - start[1])
            segments.append(Segment(second, second + far / speed, start, stop, phase))
            second += far / speed
            phase += STEPS * far
        second += float(rng.uniform(0.5, 6))
    return Walk(tuple(segments))
