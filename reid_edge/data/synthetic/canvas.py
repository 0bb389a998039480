"""Shapes on an image, with a mask of the pixels that they cover."""

from collections.abc import Sequence
from math import hypot

from PIL import Image, ImageDraw

from reid_edge.data.synthetic.palette import Colour, scaled
from reid_edge.data.synthetic.pattern import Fill
from reid_edge.data.synthetic.pose import Point2


class Canvas:
    """An image to draw on, and the mask (0 or 255) of all that was drawn.

    Args:
        image: RGB; it is drawn on, not copied.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.mask = Image.new("L", image.size)
        self._on_image = ImageDraw.Draw(image)
        self._on_mask = ImageDraw.Draw(self.mask)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    def polygon(self, points: Sequence[Point2], fill: Fill) -> None:
        """Fill a polygon of (column, row) points."""
        self._on_mask.polygon(points, 255)
        if isinstance(fill, tuple):
            self._on_image.polygon(points, fill)
            return
        shape = Image.new("L", self.size)
        ImageDraw.Draw(shape).polygon(points, 255)
        self.image.paste(fill, mask=shape)

    def ellipse(self, centre: Point2, half_width: float, half_height: float, fill: Fill) -> None:
        """Fill an upright ellipse."""
        (x, y), w, h = centre, half_width, half_height
        box = (x - w, y - h, x + w, y + h)
        self._on_mask.ellipse(box, 255)
        if isinstance(fill, tuple):
            self._on_image.ellipse(box, fill)
            return
        shape = Image.new("L", self.size)
        ImageDraw.Draw(shape).ellipse(box, 255)
        self.image.paste(fill, mask=shape)

    def limb(self, start: Point2, end: Point2, widths: tuple[float, float], fill: Fill) -> None:
        """Fill a limb that tapers from one half width to another, round at both ends."""
        (x0, y0), (x1, y1) = start, end
        length = hypot(x1 - x0, y1 - y0)
        if length > 0.5:
            across = ((y0 - y1) / length, (x1 - x0) / length)
            corners = [
                (x + sign * width * across[0], y + sign * width * across[1])
                for x, y, width, sign in (
                    (x0, y0, widths[0], 1),
                    (x1, y1, widths[1], 1),
                    (x1, y1, widths[1], -1),
                    (x0, y0, widths[0], -1),
                )
            ]
            self.polygon(corners, fill)
        self.ellipse(start, widths[0], widths[0], fill)
        self.ellipse(end, widths[1], widths[1], fill)

    def cover(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Put a rectangle (left, top, right, bottom) before everything; it is not of the mask."""
        self._on_image.rectangle(box, colour)
        self._on_mask.rectangle(box, 0)


def shaded(fill: Fill, factor: float) -> Fill:
    """Return the fill made darker (factor below 1) or lighter (above 1)."""
    if isinstance(fill, tuple):
        return scaled(fill, factor)
    return fill.point([min(255, int(level * factor)) for level in range(256)] * 3)
