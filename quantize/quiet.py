"""Silence notices of other libraries that are meant for their developers."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

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
        for message in _NOTICES:
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", category=TracerWarning)
        yield


@contextmanager
def hints_silenced() -> Iterator[None]:
    """Silence what a library prints and logs, errors excepted."""
    former = logging.root.manager.disable
    with redirect_stdout(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(former)
