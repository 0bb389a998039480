"""How tables and pages write numbers."""


def size(count: int) -> str:
    """Return a file size for people."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"
