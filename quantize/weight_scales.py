"""No weight scale so small that QNNPACK's bias overflows.

QNNPACK stores the bias as 32-bit integers in steps of (input scale x weight scale). A channel
whose weights are all but zero, as training and pruning leave them, has a tiny weight scale; its
bias then does not fit, and the channel comes out as garbage without a word. Such channels get the
smallest scale with which the bias fits. Their output is the bias anyway.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.ao.quantization import QConfig

from quantize.prepared import WeightedLayer, quantization_of, weighted_layers

# Half of what fits into 32 bits: the other half is for the sum of products.
LARGEST_BIAS = 2.0**30


def raise_weight_scales(prepared: fx.GraphModule) -> int:
    """Give each weight observer of a calibrated model a lower bound for its scales, in place.

    Returns:
        The number of channels (of layers, where weights are quantized per tensor) whose scale
        was raised.
    """
    raised = 0
    for weighted in weighted_layers(prepared):
        if weighted.layer.bias is None:
            continue
        qconfig: Any = weighted.called.qconfig
        scale, _ = quantization_of(observed_weight(weighted))
        input_scale, _ = quantization_of(weighted.input_observer)
        floor = _smallest_scale(weighted.layer.bias.detach(), input_scale)
        floor = floor if len(scale) > 1 else floor.amax(0, keepdim=True)
        raised += int((scale < floor).sum())
        weight = partial(_bounded, qconfig.weight, floor)
        bounded: Any = QConfig(qconfig.activation, weight)  # type: ignore[no-untyped-call]
        weighted.called.qconfig = bounded
    return raised


def observed_weight(weighted: WeightedLayer) -> Any:
    """Return a new weight observer of a layer that has seen its weights."""
    qconfig: Any = weighted.called.qconfig
    observer = qconfig.weight()
    observer(weighted.layer.weight)
    return observer


def _smallest_scale(bias: Tensor, input_scale: Tensor) -> Tensor:
    smallest = bias.abs() / (input_scale * LARGEST_BIAS)
    return smallest.clamp(min=torch.finfo(torch.float32).eps)


def _bounded(make_observer: Any, floor: Tensor) -> Any:
    observer = make_observer()
    # PyTorch's lower bound is one number; compared with a tensor of scales it may be one each.
    observer.eps = floor
    return observer
