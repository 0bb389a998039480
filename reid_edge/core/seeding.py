"""Randomness as a function of names, so that a resumed run draws what the first one would have."""

from hashlib import sha256


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**31) that depends on every part and on their order."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") >> 1
