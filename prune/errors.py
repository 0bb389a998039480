"""What a user of this package can be told in one line."""


class PruneError(ValueError):
    """A plan that cannot be carried out, or a surgery that did not do what was planned."""
