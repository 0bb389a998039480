"""What to draw: how many identities, cameras and images, and how large."""

from dataclasses import dataclass, fields

from reid_edge.core.errors import DataError

# Smallest and largest value of each setting. Identities of training and test share four digits.
LIMITS = {
    "seed": (0, 2**32 - 1),
    "train_identities": (1, 4999),
    "test_identities": (1, 4999),
    "cameras": (2, 99),
    "images_per_camera": (2, 99),
    "distractors": (0, 99_999),
    "junk": (0, 99_999),
    "height": (32, 512),
    "width": (16, 512),
}


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """Settings of a data set of synthetic pedestrians.

    The defaults make 2,368 images, which an OSNet x1.0 learns to tell apart in minutes.

    Args:
        seed: of everything that is drawn.
        train_identities: people to train on.
        test_identities: other people, for query and gallery.
        cameras: every identity is seen by each of them.
        images_per_camera: of an identity. Of a test identity, the first is the query.
        distractors: further images for the gallery, each of somebody else, as identity 0000.
        junk: further images for the gallery, badly cut out, as identity -1.
        height: of an image, in pixels.
        width: of an image, in pixels.

    Raises:
        DataError: a setting is not a whole number or is out of its range.
    """

    seed: int = 0
    train_identities: int = 96
    test_identities: int = 48
    cameras: int = 4
    images_per_camera: int = 4
    distractors: int = 48
    junk: int = 16
    height: int = 128
    width: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            low, high = LIMITS[name]
            # bool is an int to Python, but True identities is a mistake.
            if isinstance(value, bool) or not isinstance(value, int):
                raise DataError(f"synthetic images: {name} must be a whole number, not {value!r}")
            if not low <= value <= high:
                raise DataError(f"synthetic images: {name} must be {low} to {high}, not {value}")
