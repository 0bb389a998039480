"""Keep PyTorch's notices about its own future away from the user."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch.jit._trace import TracerWarning

# The FX quantizer and TorchScript are deprecated upstream, and still what QNNPACK needs.
_NOTICES = (
    r"(?s).*torch\.ao\.quantization is deprecated",
    r"(?s).*torch\.jit\.\w+`? is deprecated",
    r"(?s).*quantized tensor creation functions",
    r"(?s).*reduce_range will be deprecated",
    r"(?s).*legacy TorchScript-based ONNX export",
    r"(?s).*The feature will be removed",
)


@contextmanager
def torch_notices_silenced() -> Iterator[None]:
    """Silence deprecation notices, and the tracer's about scales that become constants."""
    with warnings.catch_warnings():
        for message in _NOTICES:
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", category=TracerWarning)
        yield
