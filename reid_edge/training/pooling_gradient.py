"""The gradient of global average pooling, in the layout of its input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextlib.contextmanager
def channels_last_pooling_gradients(model: nn.Module) -> Iterator[None]:
    """Give the inputs of global average pooling gradients in channels-last layout.

    PyTorch's own gradient of a mean has the channels outermost. The gates of OSNet add it to one
    that has them innermost, which is slow where the layouts differ (docs/results/training.md). The
    values are the same to the bit.

    Args:
        model: trained within; its ``nn.AdaptiveAvgPool2d`` layers with an output of 1 x 1 get a
            forward hook, which is removed at the end.
    """
    handles: list[RemovableHandle] = [
        module.register_forward_hook(_with_spread_gradient)
        for module in model.modules()
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_spread_gradient(_: nn.Module, given: tuple[Any, ...], pooled: Tensor) -> Tensor | None:
    (images,) = given
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if not (images.requires_grad and channels_last):
        return None
    return _SpreadGradient.apply(images, pooled.detach())  # type: ignore[no-any-return]


class _SpreadGradient(torch.autograd.Function):
    """Return means that are known already; the gradient is that of the mean over maps."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, means: Tensor) -> Tensor:
        """Return means (N, C, 1, 1) of maps (N, C, H, W)."""
        ctx.shape = maps.shape
        return means.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient (N, C, H, W) of the maps."""
        share = gradient / (ctx.shape[2] * ctx.shape[3])
        return share.expand(ctx.shape).contiguous(memory_format=torch.channels_last), None
