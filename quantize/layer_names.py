"""Modules chosen by their names."""

import difflib
from collections.abc import Sequence

from torch import nn

from reid_edge.core.errors import QuantizeError


def check_layer_names(model: nn.Module, layers: Sequence[str]) -> None:
    """Raise unless every name is that of a module of the model.

    Raises:
        QuantizeError: one is not; the message names the nearest that is.
    """
    known = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise QuantizeError(f"the model has no layer {layer!r} to leave in float{hint}")


def is_inside(module: str, containers: Sequence[str]) -> bool:
    """Whether a module is one of the containers, or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in containers)
