"""Independent random streams, so that no image depends on how many others are drawn."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is for. The numbers are part of the images: never reuse one."""

    CAMERA = 1
    TRAIN = 2
    TEST = 3
    DISTRACTOR = 4
    JUNK = 5
    WALK = 6
    STREET = 7
    DETECTOR = 8


# Stands for "all of them". SeedSequence pads with zeros, so it must not look like the number 0.
ALL = 2**32 - 1


def generator(
    seed: int, stream: Stream, *, identity: int = ALL, camera: int = ALL, image: int = ALL
) -> np.random.Generator:
    """Return the generator that belongs to exactly these numbers and to no others.

    Args:
        seed: of the whole data set, 0 to 2**32 - 1.
        stream: what it is for.
        identity: number of the identity within its stream.
        camera: number of the camera.
        image: number of the image of this identity in this camera.
    """
    entropy = (seed, int(stream), identity, camera, image)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
