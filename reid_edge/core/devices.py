"""Where a model runs, and in which arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from reid_edge.core.errors import ModelError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
"""As Lightning names it."""


def choose_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Return the device to compute on; "auto" is the GPU where there is one.

    Raises:
        ModelError: a GPU is wanted, and there is none.
    """
    import torch  # takes seconds, and a command's options are read before they are sure

    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ModelError("device cuda: torch finds no GPU; choose cpu or auto")
    return "cpu"


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Return the context in which a model computes in a precision on a device."""
    import torch

    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(torch.device(device).type, dtype=half, enabled=half is not None)
