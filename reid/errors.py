"""What a user of this package can be told in one line."""


class ReidError(ValueError):
    """Base of every error whose message is meant for the user."""


class DataError(ReidError):
    """A data folder or a picture is not what was expected."""


class CheckpointError(ReidError):
    """A checkpoint cannot be read, is not safe to read, or does not fit the model."""


class ModelError(ReidError):
    """An unknown architecture or an impossible combination of model settings."""


class TrainingError(ReidError):
    """Training settings that cannot be honoured with this data."""
