"""What a user can be told in one line, from any package."""

from prune.errors import PruneError
from quantize.errors import QuantizeError
from reid.errors import ReidError


class PipelineError(ValueError):
    """A command, a setting or a run folder that cannot be used as it is."""


USER_ERRORS = (PipelineError, PruneError, QuantizeError, ReidError)


def one_line(error: Exception) -> str:
    """Return an error's message as one line.

    An error from a loader's worker process arrives with that process's traceback in its message;
    the last line is the message itself.
    """
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else type(error).__name__
    return last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
