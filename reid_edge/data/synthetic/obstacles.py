"""What stands between the camera and the person."""

import numpy as np

from reid_edge.data.synthetic.camera import Obstacle
from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.palette import Colour, scaled

METAL: Colour = (92, 94, 98)
STONE: Colour = (168, 164, 156)


def paint_obstacle(canvas: Canvas, obstacle: Obstacle, rng: np.random.Generator) -> None:
    """Paint an obstacle over the canvas, somewhere that leaves most of the person visible."""
    width, height = canvas.size
    if obstacle is Obstacle.POLE:
        centre, half = rng.uniform(0.05, 0.95) * width, rng.uniform(0.03, 0.07) * width
        canvas.cover((centre - half, 0, centre + half, height), METAL)
        canvas.cover((centre + 0.3 * half, 0, centre + half, height), scaled(METAL, 0.7))
    elif obstacle is Obstacle.RAIL:
        top, gap = rng.uniform(0.55, 0.75) * height, rng.uniform(0.09, 0.14) * height
        for k in range(3):
            row = top + k * gap
            canvas.cover((0, row, width, row + 0.022 * height), METAL)
    elif obstacle is Obstacle.WALL:
        left, top = rng.uniform(-0.3, 0.8) * width, rng.uniform(0.68, 0.86) * height
        canvas.cover((left, top, left + 0.75 * width, height), STONE)
        canvas.cover((left, top, left + 0.75 * width, top + 0.03 * height), scaled(STONE, 1.2))
