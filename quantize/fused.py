"""Modules that FX fuses: the layer in them, and its BatchNorm.

In evaluation mode a float layer fused with its ReLU is a sequence of the two; in training mode one
that stays in float may have its BatchNorm between them, and one that learns with rounding is a
single module with the BatchNorm inside it.
"""

import copy
from typing import Any

from torch import nn
from torch.ao.nn.intrinsic.modules.fused import _FusedModule
from torch.nn.modules.batchnorm import _BatchNorm

from quantize.fold import fold_into


def layer_and_norm(module: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return the layer that a module is or holds, and the BatchNorm fused with it, if any."""
    if _learns_with_rounding(module):
        return module, getattr(module, "bn", None)
    if not isinstance(module, _FusedModule):
        return module, None
    layer, *others = module.children()
    return layer, next((other for other in others if isinstance(other, _BatchNorm)), None)


def folded_layer(module: nn.Module) -> nn.Module:
    """Return what a module's layer is in evaluation mode: float, its BatchNorm folded into it.

    The module is left as it is.
    """
    if _learns_with_rounding(module):
        learning: Any = module
        return layer_and_norm(learning.to_float())[0]
    layer, norm = layer_and_norm(module)
    if norm is not None:
        layer = copy.deepcopy(layer)
        fold_into(layer, norm)
    return layer


def _learns_with_rounding(module: nn.Module) -> bool:
    return hasattr(module, "weight_fake_quant")
