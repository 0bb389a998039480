"""What a user of this package can be told in one line."""


class PruneError(ValueError):
    """A plan that cannot be carried out, or a surgery that did not do what was planned."""


def reason_of(error: Exception) -> str:
    """Return what another library's error says, as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
