"""Draws the frames of a camera that persons walk past, and tells what is to be seen of whom."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from reid_edge.data.synthetic.camera import Camera, Passage, make_camera
from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.figure import paint_person
from reid_edge.data.synthetic.identity import Person, draw_person
from reid_edge.data.synthetic.mot_settings import MotSettings
from reid_edge.data.synthetic.obstacles import METAL, STONE
from reid_edge.data.synthetic.optics import SUPERSAMPLING, develop
from reid_edge.data.synthetic.palette import Colour, scaled
from reid_edge.data.synthetic.pose import Gait, View, draw_gait
from reid_edge.data.synthetic.randomness import Stream, generator
from reid_edge.data.synthetic.scene import SPAN
from reid_edge.data.synthetic.walk import FAR, NEAR, Ground, Moment, Walk, draw_walk, make_ground

# What is taken of a body with its bag and its arms, in body heights to each side, above and below.
MARGINS = (0.55, 1.2, 0.12)
# Who is less in the frame than this share is not in it.
LEAST_INSIDE = 0.15
NOBODY, OBSTACLE = -1, -2


@dataclass(frozen=True)
class Block:
    """Something that stands on the ground and hides who walks behind it; in body heights."""

    across: float
    depth: float
    half_width: float
    height: float
    colour: Colour


@dataclass(frozen=True)
class Passer:
    """A person on this street."""

    number: int
    person: Person
    walk: Walk
    gait: Gait


@dataclass(frozen=True)
class Seen:
    """A person in a frame.

    Attributes:
        number: which person.
        box: left, top, right and bottom of all of the person, also of what is hidden or outside the
            frame, in pixels of the frame.
        visibility: share of the person that is to be seen, 0 to 1.
    """

    number: int
    box: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True)
class Street:
    """What a camera looks at.

    Attributes:
        settings: of the sequences.
        camera: how it colours and blurs; its scene is as large as the canvas.
        passage: the light.
        ground: on the canvas, ``SUPERSAMPLING`` times as large as the frame.
        blocks: what stands about.
        passers: all persons.
    """

    settings: MotSettings
    number: int
    camera: Camera
    passage: Passage
    ground: Ground
    blocks: tuple[Block, ...]
    passers: tuple[Passer, ...]

    def draw(self, frame: int) -> tuple[Image.Image, list[Seen]]:
        """Draw a frame.

        Args:
            frame: from 0.

        Returns:
            The image, RGB, and who is in it, in the order of their numbers.
        """
        rng = generator(self.settings.seed, Stream.STREET, camera=self.number, image=frame)
        image = self.camera.scene.copy()
        owner = np.full((image.height, image.width), NOBODY, dtype=np.int16)
        second = frame / self.settings.frame_rate
        there = [
            (passer, moment)
            for passer in self.passers
            if (moment := passer.walk.at(second)) is not None
        ]
        # From the far ones to the near ones.
        things: list[tuple[float, Block | tuple[Passer, Moment]]] = [
            *((block.depth, block) for block in self.blocks),
            *((moment.depth, (passer, moment)) for passer, moment in there),
        ]
        painted: dict[int, tuple[tuple[int, int, int, int], int]] = {}
        for _, thing in sorted(things, key=lambda pair: -pair[0]):
            if isinstance(thing, Block):
                self._paint_block(image, owner, thing)
            else:
                passer, moment = thing
                whole = self._paint_passer(image, owner, passer, moment)
                if whole is not None:
                    painted[passer.number] = whole
        seen = []
        for number, (box, pixels) in sorted(painted.items()):
            left, top, right, bottom = (side / SUPERSAMPLING for side in box)
            wide = min(right, self.settings.width) - max(left, 0)
            tall = min(bottom, self.settings.height) - max(top, 0)
            inside = max(wide, 0) * max(tall, 0) / ((right - left) * (bottom - top))
            if inside >= LEAST_INSIDE:
                visible = np.count_nonzero(owner == number) / pixels
                seen.append(Seen(number, (left, top, right, bottom), visible))
        small = image.reduce(SUPERSAMPLING)
        blurred = small.filter(ImageFilter.GaussianBlur(self.camera.blur))
        return develop(np.asarray(blurred, np.float32), self.camera, self.passage, rng), seen

    def _paint_passer(
        self, image: Image.Image, owner: NDArray[np.int16], passer: Passer, moment: Moment
    ) -> tuple[tuple[int, int, int, int], int] | None:
        """Paint a person; return the box and the number of their pixels, or None if outside."""
        pixels = self.ground.body(moment.depth) * passer.person.body.stature
        column, row = self.ground.column(moment.across, moment.depth), self.ground.row(moment.depth)
        side, above, below = (round(margin * pixels) for margin in MARGINS)
        left, top = round(column) - side, round(row) - above
        width, height = 2 * side, above + below
        if left >= image.width or left + width <= 0:
            return None
        # A part of the image: cloths with patterns are as large as what is painted on.
        part = image.crop((left, top, left + width, top + height))
        shadow = (
            column - left - 0.17 * pixels, row - top - 0.022 * pixels,
            column - left + 0.17 * pixels, row - top + 0.022 * pixels,
        )  # fmt: skip
        ImageDraw.Draw(part, "RGBA").ellipse(shadow, (20, 20, 24, 90))
        canvas = Canvas(part)
        view = View(moment.heading, self.camera.pitch, pixels, column - left, row - top)
        stride = passer.gait.stride if moment.walks else 0.03
        paint_person(
            canvas, passer.person, view, replace(passer.gait, phase=moment.phase, stride=stride)
        )
        image.paste(part, (left, top))
        box = canvas.mask.getbbox()
        if box is None:
            return None
        mask = np.asarray(canvas.mask) > 0
        rows = slice(max(top, 0), max(top + height, 0))
        columns = slice(max(left, 0), max(left + width, 0))
        target = owner[rows, columns]
        inner = mask[rows.start - top :, columns.start - left :]
        target[inner[: target.shape[0], : target.shape[1]]] = passer.number
        whole = (left + box[0], top + box[1], left + box[2], top + box[3])
        return whole, int(np.count_nonzero(mask))

    def _paint_block(self, image: Image.Image, owner: NDArray[np.int16], block: Block) -> None:
        pixels = self.ground.body(block.depth)
        column, row = self.ground.column(block.across, block.depth), self.ground.row(block.depth)
        left, right = column - block.half_width * pixels, column + block.half_width * pixels
        top = row - block.height * pixels
        draw = ImageDraw.Draw(image)
        draw.rectangle((left, top, right, row), block.colour)
        draw.rectangle((left + 0.7 * (right - left), top, right, row), scaled(block.colour, 0.8))
        draw.rectangle((left, top, right, top + 0.05 * pixels), scaled(block.colour, 1.15))
        rows = slice(max(0, ceil(top)), max(0, ceil(row)))
        owner[rows, max(0, ceil(left)) : max(0, ceil(right))] = OBSTACLE


def make_street(settings: MotSettings, number: int) -> Street:
    """Make up what a camera looks at.

    Args:
        settings: of the sequences.
        number: of the camera, from 0.
    """
    rng = generator(settings.seed, Stream.STREET, camera=number)
    width, height = settings.width * SUPERSAMPLING, settings.height * SUPERSAMPLING
    # A scene is larger than the canvas that it is made for.
    canvas = round(width / SPAN[0]), round(height / SPAN[1])
    camera = make_camera(settings.seed, number, canvas)
    camera = replace(
        camera,
        scene=camera.scene.resize((width, height)),
        blur=camera.blur * settings.height / 360,
    )
    ground = make_ground(width, height)
    passers = []
    for identity in range(settings.persons):
        one = generator(settings.seed, Stream.WALK, identity=identity)
        own = generator(settings.seed, Stream.WALK, identity=identity, camera=number)
        walk = draw_walk(own, ground, settings)
        passers.append(Passer(identity, draw_person(one), walk, draw_gait(own)))
    light = Passage(
        heading=0.0,
        exposure=float(np.exp(rng.normal(0, 0.08))),
        gains=(1.0, 1.0, 1.0),
        column=0.0,
    )
    return Street(
        settings, number, camera, light, ground, _draw_blocks(rng, ground), tuple(passers)
    )


def _draw_blocks(rng: np.random.Generator, ground: Ground) -> tuple[Block, ...]:
    """Make up two or three poles and walls, so that people are hidden for up to seconds."""
    blocks = []
    for _ in range(int(rng.integers(2, 4))):
        depth = float(rng.uniform(NEAR, 0.5 * (NEAR + FAR)))
        across = float(rng.uniform(-0.8, 0.8)) * 0.5 * ground.width / ground.body(depth)
        if rng.random() < 0.4:
            blocks.append(Block(across, depth, float(rng.uniform(0.06, 0.12)), 1.9, METAL))
        else:
            half, height = float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.6, 1.2))
            blocks.append(Block(across, depth, half, height, STONE))
    return tuple(blocks)
