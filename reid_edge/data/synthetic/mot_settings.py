"""What sequences of walking pedestrians to draw."""

from dataclasses import dataclass, fields

from reid_edge.core.errors import DataError

# Smallest and largest value of each setting.
LIMITS = {
    "seed": (0, 2**32 - 1),
    "cameras": (1, 99),
    "persons": (1, 999),
    "frames": (2, 99_999),
    "frame_rate": (1, 120),
    "width": (64, 3840),
    "height": (48, 2160),
}


@dataclass(frozen=True, kw_only=True)
class MotSettings:
    """Settings of sequences of synthetic pedestrians who walk past cameras.

    Args:
        seed: of everything that is drawn.
        cameras: each gives one sequence; all persons pass all of them.
        persons: identities; each comes by, goes out of sight and comes back.
        frames: of a sequence.
        frame_rate: frames a second.
        width: of a frame, in pixels.
        height: of a frame, in pixels.

    Raises:
        DataError: a setting is not a whole number or is out of its range.
    """

    seed: int = 0
    cameras: int = 2
    persons: int = 14
    frames: int = 300
    frame_rate: int = 10
    width: int = 640
    height: int = 360

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            low, high = LIMITS[name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise DataError(f"synthetic sequences: {name} must be a whole number: {value!r}")
            if not low <= value <= high:
                raise DataError(f"synthetic sequences: {name} must be {low} to {high}, not {value}")
