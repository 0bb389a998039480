"""The colours of pedestrians: few, so that many people share each of them."""

import numpy as np

Colour = tuple[int, int, int]

BLACK: Colour = (32, 32, 36)
WHITE: Colour = (222, 221, 216)

# Twelve colours of clothes and how often they are worn, roughly.
CLOTHES: tuple[Colour, ...] = (
    BLACK,
    (72, 74, 78),  # charcoal
    (134, 136, 138),  # grey
    WHITE,
    (38, 46, 84),  # navy
    (84, 108, 148),  # denim
    (150, 178, 204),  # light blue
    (166, 44, 48),  # red
    (104, 74, 54),  # brown
    (190, 168, 134),  # beige
    (86, 98, 66),  # olive
    (206, 142, 156),  # pink
)
UPPER_WEIGHTS = (0.14, 0.09, 0.10, 0.12, 0.09, 0.08, 0.08, 0.09, 0.05, 0.06, 0.05, 0.05)
LOWER_WEIGHTS = (0.25, 0.12, 0.08, 0.05, 0.14, 0.19, 0.03, 0.01, 0.03, 0.07, 0.03, 0.00)

SKIN: tuple[Colour, ...] = (
    (232, 194, 168),
    (216, 172, 140),
    (190, 142, 108),
    (150, 106, 78),
    (104, 72, 54),
)
HAIR: tuple[Colour, ...] = (
    (26, 22, 22),
    (52, 38, 30),
    (92, 62, 40),
    (168, 130, 84),
    (150, 148, 146),
)
HAIR_WEIGHTS = (0.42, 0.26, 0.16, 0.09, 0.07)


def choose(
    rng: np.random.Generator,
    colours: tuple[Colour, ...],
    weights: tuple[float, ...] | None = None,
    spread: float = 5.0,
) -> Colour:
    """Pick a colour and move it a little, since no two dyes are the same.

    Args:
        rng: where the choice comes from.
        colours: what to choose from.
        weights: how likely each is; they sum to 1. Without them all are equally likely.
        spread: standard deviation of the move, in grey levels of 0 to 255.
    """
    picked = colours[int(rng.choice(len(colours), p=weights))]
    moved = np.clip(np.asarray(picked) + rng.normal(0.0, spread, 3), 0, 255).astype(int)
    return int(moved[0]), int(moved[1]), int(moved[2])


def scaled(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue
