"""What a user of this package can be told in one line."""


class QuantizeError(ValueError):
    """A quantization that cannot be carried out, or a file that cannot be read."""
