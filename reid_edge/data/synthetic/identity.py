"""What makes a person look like nobody else: body, hair, clothes, bag."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from reid_edge.data.synthetic.palette import (
    CLOTHES,
    HAIR,
    HAIR_WEIGHTS,
    LOWER_WEIGHTS,
    SKIN,
    UPPER_WEIGHTS,
    Colour,
    choose,
)
from reid_edge.data.synthetic.pattern import Cloth, Pattern

Choice = TypeVar("Choice", bound=StrEnum)


class Hair(StrEnum):
    """How the hair is worn."""

    BALD = "bald"
    SHORT = "short"
    CHIN = "chin"
    LONG = "long"
    TAIL = "tail"


class Hat(StrEnum):
    """What is on the head."""

    NONE = "none"
    CAP = "cap"
    BEANIE = "beanie"


class Upper(StrEnum):
    """The garment of the upper body."""

    T_SHIRT = "t-shirt"
    SHIRT = "shirt"
    JACKET = "jacket"
    COAT = "coat"
    DRESS = "dress"


class Lower(StrEnum):
    """The garment of the lower body; a dress leaves it unseen but for the legs."""

    TROUSERS = "trousers"
    SHORTS = "shorts"
    SKIRT = "skirt"


class Bag(StrEnum):
    """What is carried."""

    NONE = "none"
    BACKPACK = "backpack"
    SHOULDER = "shoulder"
    HAND = "hand"


@dataclass(frozen=True)
class Body:
    """Shape of a body; lengths are fractions of its own height, ``stature`` of the usual one."""

    stature: float
    build: float
    shoulders: float
    hips: float
    legs: float


@dataclass(frozen=True)
class Logo:
    """A print on the chest, seen from the front only; sizes are fractions of body height."""

    colour: Colour
    width: float
    height: float


@dataclass(frozen=True)
class Person:
    """Everything that stays the same from image to image."""

    body: Body
    skin: Colour
    hair: Hair
    hair_colour: Colour
    hat: Hat
    hat_colour: Colour
    upper: Upper
    upper_cloth: Cloth
    upper_hem: float
    inner: Colour | None
    logo: Logo | None
    lower: Lower
    lower_cloth: Cloth
    lower_hem: float
    legwear: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    bag_size: float
    bag_left: bool

    @property
    def sleeve(self) -> float:
        """How much of the arm is covered, from 0 (none) to 1 (to the wrist)."""
        return {Upper.T_SHIRT: 0.36, Upper.DRESS: 0.22}.get(self.upper, 1.0)


def draw_person(rng: np.random.Generator) -> Person:
    """Make up a person."""
    upper = _pick(rng, Upper, (0.34, 0.22, 0.22, 0.12, 0.10))
    hair = _pick(rng, Hair, (0.05, 0.45, 0.14, 0.22, 0.14))
    skin = choose(rng, SKIN)
    lower = _pick(rng, Lower, (0.70, 0.16, 0.14))
    upper_cloth = _draw_cloth(rng, UPPER_WEIGHTS, (0.48, 0.15, 0.07, 0.12, 0.06, 0.12))
    lower_cloth = _draw_cloth(rng, LOWER_WEIGHTS, (0.86, 0.02, 0.03, 0.05, 0.02, 0.02))
    open_front = upper in (Upper.JACKET, Upper.COAT) and rng.random() < 0.55
    with_logo = upper is Upper.T_SHIRT and rng.random() < 0.4
    bare_legs = rng.random() < 0.6
    hems = {Upper.COAT: (0.24, 0.36), Upper.DRESS: (0.22, 0.36)}.get(upper, (0.42, 0.48))
    # Every value is drawn in the order in which it is written here.
    return Person(
        body=Body(
            stature=float(rng.normal(1.0, 0.04)),
            build=float(np.clip(rng.normal(1.0, 0.13), 0.78, 1.4)),
            shoulders=float(rng.uniform(0.098, 0.124)),
            hips=float(rng.uniform(0.082, 0.104)),
            legs=float(rng.uniform(0.455, 0.505)),
        ),
        skin=skin,
        hair=hair,
        hair_colour=choose(rng, HAIR, HAIR_WEIGHTS),
        hat=_pick(rng, Hat, (0.84, 0.10, 0.06)),
        hat_colour=choose(rng, CLOTHES),
        upper=upper,
        upper_cloth=upper_cloth,
        upper_hem=float(rng.uniform(*hems)),
        inner=choose(rng, CLOTHES) if open_front else None,
        logo=Logo(
            width=float(rng.uniform(0.04, 0.10)),
            height=float(rng.uniform(0.03, 0.08)),
            colour=choose(rng, CLOTHES),
        )
        if with_logo
        else None,
        lower=lower,
        lower_cloth=lower_cloth,
        lower_hem=float(rng.uniform(0.24, 0.36)),
        legwear=skin if bare_legs else choose(rng, CLOTHES, LOWER_WEIGHTS),
        shoes=choose(rng, CLOTHES),
        bag=_pick(rng, Bag, (0.44, 0.26, 0.18, 0.12)),
        bag_colour=choose(rng, CLOTHES),
        bag_size=float(rng.uniform(0.8, 1.2)),
        bag_left=bool(rng.random() < 0.5),
    )


def _draw_cloth(
    rng: np.random.Generator, colours: tuple[float, ...], patterns: tuple[float, ...]
) -> Cloth:
    return Cloth(
        colour=choose(rng, CLOTHES, colours),
        second=choose(rng, CLOTHES),
        pattern=_pick(rng, Pattern, patterns),
        period=float(rng.uniform(0.045, 0.085)),
    )


def _pick(rng: np.random.Generator, choices: type[Choice], weights: tuple[float, ...]) -> Choice:
    return list(choices)[int(rng.choice(len(weights), p=weights))]
