"""PyTorch's int8 engines: which there are, and switching between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from reid_edge.core.errors import QuantizeError

Engine = Literal["qnnpack", "x86", "onednn"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


def supported_engines() -> list[Engine]:
    """Return the engines that this build of PyTorch can run on this machine."""
    import torch  # takes seconds; what only reads declarations does without

    return [name for name in ENGINES if name in torch.backends.quantized.supported_engines]


def check_engine(engine: str) -> None:
    """Check that int8 models can be made for an engine here.

    Raises:
        QuantizeError: they cannot; the message names the engines that are supported.
    """
    supported = supported_engines()
    if engine not in supported:
        known = ", ".join(supported) or "none"
        raise QuantizeError(f"int8 engine {engine!r} is not supported here; supported: {known}")


def uses_reduced_range(engine: str) -> bool:
    """Whether activations must keep to 7 bits (0..127) on an engine.

    The x86 engine multiplies pairs of 8-bit numbers into 16 bits, which overflow silently. QNNPACK
    and oneDNN (on a CPU with VNNI) add up in 32 bits.
    """
    return engine == "x86"


@contextmanager
def quantized_engine(engine: str | None) -> Iterator[None]:
    """Make an engine the current one, and restore the former one afterwards.

    Args:
        engine: an engine of this build of PyTorch; None leaves the current one as it is.

    Raises:
        QuantizeError: the engine is not supported on this machine.
    """
    if engine is None:
        yield
        return
    import torch

    if engine == "none" or engine not in torch.backends.quantized.supported_engines:
        check_engine(engine)
    former = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = former
