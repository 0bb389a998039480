"""The errors whose message is one line for the user: what, where, what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


class ReidError(ValueError):
    """Base of every error whose message is meant for the user."""


class DataError(ReidError):
    """A data folder or an image is not what was expected."""


class CheckpointError(ReidError):
    """A checkpoint cannot be read, is not safe to read, or does not fit the model."""


class ArchitectureError(CheckpointError):
    """A checkpoint's architecture has to be named, or is another one than the named one."""


class ModelError(ReidError):
    """An unknown architecture or an impossible combination of model settings."""


class TrainingError(ReidError):
    """Training settings that cannot be honoured with this data."""


class DivergenceError(TrainingError):
    """A loss, a weight or a statistic became NaN or infinite during a training."""


class PruneError(ReidError):
    """A plan that cannot be carried out, or a surgery that did not do what was planned."""


class QuantizeError(ReidError):
    """A quantization that cannot be carried out, or a file that cannot be read."""


class NotBuiltError(QuantizeError):
    """A file is written as source, and nothing on this machine can build it."""


class PipelineError(ReidError):
    """A command, a setting or a run folder that cannot be used as it is."""


def reason_of(error: Exception) -> str:
    """Return what another library's error says, as one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def one_line(error: Exception) -> str:
    """Return an error's message as one line.

    An error from a loader's worker process arrives with that process's traceback in its message;
    the last line is the message itself.
    """
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else type(error).__name__
    return last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")


def error_in_traceback(text: str) -> ReidError | None:
    """Return the error of this package that a printed traceback ends with, if it does."""
    # One of a loader's worker begins with "Original", and may be within another one.
    heading = re.compile(r"^(?:Original )?Traceback \(most recent call last\):\n", re.MULTILINE)
    *_, last = heading.split(text)
    found = re.search(rf"^{re.escape(__name__)}\.(\w+): (.*)", last, re.MULTILINE | re.DOTALL)
    kind = globals().get(found[1]) if found else None
    if found is None or not (isinstance(kind, type) and issubclass(kind, ReidError)):
        return None
    return kind(found[2].strip())


@contextmanager
def worker_errors_as_own(raised: type[Exception] = ReidError) -> Iterator[None]:
    """Tell an error of another process as if it were this process's own.

    PyTorch raises it here with the whole traceback there as its message.

    Args:
        raised: what PyTorch raises; of a loader's worker it is the same kind of error.

    Raises:
        ReidError: the same that the worker ended with.
    """
    try:
        yield
    except raised as error:
        original = error_in_traceback(str(error))
        if original is None:
            raise
        raise original from error
