"""How many images of a set are decoded when it is checked."""

# Of more images than this, only DECODED are decoded, evenly spaced, unless the user asks for more.
MOST_DECODED = 200_000
DECODED = 50_000


def spacing(images: int, decoded: int | None = None) -> int:
    """Return n, where every n-th image of a set is decoded.

    Args:
        images: of the set.
        decoded: how many to decode at most; None: all of a set of up to ``MOST_DECODED`` images,
            otherwise ``DECODED``.
    """
    if decoded is None:
        decoded = images if images <= MOST_DECODED else DECODED
    return max(1, -(-images // max(1, decoded)))
