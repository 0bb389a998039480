"""Pruning is done on the CPU."""

import itertools

from torch import Tensor, nn

from reid_edge.core.errors import PruneError


def check_on_cpu(*given: nn.Module | Tensor) -> None:
    """Check that models and images are on the CPU.

    Raises:
        PruneError: one of them is on another device, which the message names.
    """
    for one in given:
        tensors = (
            itertools.chain(one.parameters(), one.buffers())
            if isinstance(one, nn.Module)
            else iter([one])
        )
        device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None)
        if device is not None:
            what = type(one).__name__ if isinstance(one, nn.Module) else "the input"
            raise PruneError(
                f"{what} is on {device}, and pruning works on the CPU: move model and images "
                "there with .cpu()"
            )
