"""Draws any image of a data set, in any order, always the same."""

from collections.abc import Sequence

from PIL import Image

from reid_edge.data.synthetic.camera import Camera, make_camera, make_passage
from reid_edge.data.synthetic.identity import draw_person
from reid_edge.data.synthetic.image import draw_box, draw_image, draw_junk_box
from reid_edge.data.synthetic.market import Entry
from reid_edge.data.synthetic.optics import SUPERSAMPLING
from reid_edge.data.synthetic.randomness import Stream, generator
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings


def make_cameras(settings: SyntheticSettings) -> list[Camera]:
    """Make the cameras of a data set."""
    size = _canvas_size(settings)
    return [make_camera(settings.seed, number, size) for number in range(settings.cameras)]


def draw_entry(entry: Entry, settings: SyntheticSettings, cameras: Sequence[Camera]) -> Image.Image:
    """Draw one image, RGB, ``settings.width`` x ``settings.height``.

    Args:
        entry: which one.
        settings: of the data set.
        cameras: what ``make_cameras`` made of these settings.
    """
    seed, stream, identity = settings.seed, entry.stream, entry.identity
    camera = cameras[entry.camera]
    person = draw_person(generator(seed, stream, identity=identity))
    passage = make_passage(generator(seed, stream, identity=identity, camera=entry.camera), camera)
    rng = generator(seed, stream, identity=identity, camera=entry.camera, image=entry.image)
    box = draw_junk_box(rng) if stream is Stream.JUNK else draw_box(rng)
    return draw_image(person, camera, passage, box, _canvas_size(settings), rng)


def _canvas_size(settings: SyntheticSettings) -> tuple[int, int]:
    return settings.width * SUPERSAMPLING, settings.height * SUPERSAMPLING
