"""One image: a person, somewhere, at some moment, seen by a camera."""

from dataclasses import dataclass, replace
from math import pi, radians

import numpy as np
from PIL import Image, ImageDraw

from reid_edge.data.synthetic.camera import Camera, Passage
from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.figure import paint_person
from reid_edge.data.synthetic.identity import Person, draw_person
from reid_edge.data.synthetic.obstacles import paint_obstacle
from reid_edge.data.synthetic.optics import photograph
from reid_edge.data.synthetic.pose import View, draw_gait

# How often somebody else is behind or before the person, something is in the way, a box is bad.
BEHIND = 0.08
BEFORE = 0.05
OBSTACLES = 0.22
BAD_BOXES = 0.06


@dataclass(frozen=True)
class Box:
    """How badly the detector's box fits; fractions of width and height, 0, 0 and 1 are right."""

    right: float
    down: float
    zoom: float


def draw_box(rng: np.random.Generator) -> Box:
    """Make up a box: most are a little off, some cut off the feet or the head."""
    wide = 2.5 if rng.random() < BAD_BOXES else 1.0
    return Box(
        right=float(rng.normal(0, 0.05 * wide)),
        down=float(rng.normal(0, 0.022 * wide)),
        zoom=float(np.exp(rng.normal(0, 0.04 * wide))),
    )


def draw_junk_box(rng: np.random.Generator) -> Box:
    """Make up a box that has hardly anything of the person in it."""
    side = 1 if rng.random() < 0.5 else -1
    return Box(
        right=side * float(rng.uniform(0.4, 0.7)),
        down=float(rng.uniform(-0.35, 0.35)),
        zoom=float(rng.uniform(1.3, 1.8)),
    )


def draw_image(
    person: Person,
    camera: Camera,
    passage: Passage,
    box: Box,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Image.Image:
    """Draw an image.

    Args:
        person: who is in it.
        camera: made for canvases of this ``size``.
        passage: how the person passes the camera.
        box: how well the person is cut out.
        size: width and height of the canvas, ``SUPERSAMPLING`` times those of the image.
        rng: for all that changes from image to image.
    """
    # The part of the scene that is behind the person.
    width, height = size
    margin = camera.scene.width - width, camera.scene.height - height
    left = round(margin[0] * min(1.0, max(0.0, passage.column + float(rng.normal(0, 0.08)))))
    top = round(margin[1] * float(rng.random()))
    image = camera.scene.crop((left, top, left + width, top + height))
    # A detector fits its box to the person, so that only a part of a difference in height is left.
    pixels = height * camera.zoom * person.body.stature**0.5 * box.zoom
    view = View(
        heading=passage.heading + float(rng.normal(0, radians(10))),
        pitch=camera.pitch,
        pixels=pixels,
        centre=width * (0.5 + box.right),
        ground=0.5 * height + 0.485 * pixels + height * box.down,
    )
    canvas = Canvas(image)
    crowd = float(rng.random())
    if crowd < BEHIND:
        _paint_bystander(canvas, view, rng, near=False)
    # The ground is darker at the feet.
    wide, tall = 0.17 * view.pixels, 0.022 * view.pixels
    shadow = (view.centre - wide, view.ground - tall, view.centre + wide, view.ground + tall)
    ImageDraw.Draw(image, "RGBA").ellipse(shadow, (20, 20, 24, 90))
    paint_person(canvas, person, view, draw_gait(rng))
    if crowd > 1 - BEFORE:
        _paint_bystander(canvas, view, rng, near=True)
    if rng.random() < OBSTACLES:
        paint_obstacle(canvas, camera.obstacle, rng)
    return photograph(image, canvas.mask, camera, passage, rng)


def _paint_bystander(canvas: Canvas, view: View, rng: np.random.Generator, *, near: bool) -> None:
    """Paint somebody else who is half in the image, before or behind the person."""
    side = 1 if rng.random() < 0.5 else -1
    zoom = float(rng.uniform(1.0, 1.12) if near else rng.uniform(0.7, 0.92))
    away = float(rng.uniform(0.55, 0.75) if near else rng.uniform(0.25, 0.6))
    stranger = replace(
        view,
        heading=view.heading + float(rng.choice((0.0, pi))) + float(rng.normal(0, 0.3)),
        pixels=zoom * view.pixels,
        centre=view.centre + side * away * canvas.size[0],
        ground=view.ground + (zoom - 1) * 0.35 * view.pixels,
    )
    paint_person(canvas, draw_person(rng), stranger, draw_gait(rng))
