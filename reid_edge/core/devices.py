"""Where a model runs."""

from typing import Literal, get_args

from reid_edge.core.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


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
