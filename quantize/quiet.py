"""Keep notices of other libraries that are meant for their developers from the terminal."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from reid_edge.core.library_warnings import log_warnings, logger

# The FX quantizer and TorchScript are deprecated, but QNNPACK still needs them.
_NOTICES = (
    r"(?s).*torch\.ao\.quantization is deprecated",
    r"(?s).*torch\.jit\.\w+`? is deprecated",
    r"(?s).*quantized tensor creation functions",
    r"(?s).*reduce_range will be deprecated",
    r"(?s).*legacy TorchScript-based ONNX export",
    r"(?s).*The feature will be removed",
    r"(?s)no signature found for",
)


@contextmanager
def torch_notices_silenced() -> Iterator[None]:
    """Silence deprecation notices, and the tracer's about scales that become constants."""
    from torch.jit._trace import TracerWarning

    with warnings.catch_warnings():
        # Also where the caller makes errors of warnings.
        for notice in _NOTICES:
            warnings.filterwarnings("default", message=notice)
        warnings.filterwarnings("default", category=TracerWarning)
        log_warnings(
            lambda text, category, _: (
                issubclass(category, TracerWarning)
                or any(re.match(notice, text) for notice in _NOTICES)
            )
        )
        yield


@contextmanager
def hints_silenced() -> Iterator[None]:
    """Silence what a library prints, warns of and logs, errors excepted.

    What it prints and warns of is in the log file of a run.
    """
    former = logging.root.manager.disable
    printed, held = io.StringIO(), list[str]()
    try:
        with redirect_stdout(printed), warnings.catch_warnings():
            log_warnings(log=held.append)
            logging.disable(logging.WARNING)
            yield
    finally:
        logging.disable(former)
        for line in (*held, *printed.getvalue().splitlines()):
            logger.debug("%s", line)
