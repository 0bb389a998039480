"""BatchNorm whose statistics are those of the batches of all ranks."""

from __future__ import annotations

from typing import cast

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from reid_edge.training.gathering import sum_over_ranks


class CpuSyncBatchNorm(_BatchNorm):
    """What ``torch.nn.SyncBatchNorm`` is on a GPU, on the CPU, where that does not run.

    All ranks have batches of the same size.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Take images (N, C, H, W) and rows (N, C)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the mean and variance over the batches of all ranks in training mode."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        values = input.float()
        axes = [0, *range(2, values.dim())]
        shape = [1, -1] + [1] * (values.dim() - 2)
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = sum_over_ranks(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                tracked = cast(Tensor, self.num_batches_tracked).add_(1)
                share = 1 / float(tracked) if self.momentum is None else self.momentum
                cast(Tensor, self.running_mean).lerp_(mean.detach(), share)
                unbiased = variance.detach() * (count / (count - 1))
                cast(Tensor, self.running_var).lerp_(unbiased, share)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        normalised: Tensor = scaled.to(input.dtype)
        return normalised


class SyncBatchNorm(LayerSync):
    """Let the BatchNorm layers of a model see the batches of all ranks during a training.

    Lightning's own plugin leaves layers of another class behind, which a cut does not know; this
    one changes the class of the layers and changes it back.
    """

    def __init__(self) -> None:
        self._former: list[tuple[nn.Module, type[nn.Module]]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the class of all BatchNorm layers."""
        on_gpu = torch.cuda.is_available() and dist.get_backend() == "nccl"
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                self._former.append((module, type(module)))
                module.__class__ = nn.SyncBatchNorm if on_gpu else CpuSyncBatchNorm
                module.process_group = None  # type: ignore[assignment]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Change it back."""
        for module, former in self._former:
            module.__class__ = former
            del module.process_group
        self._former.clear()
        return model
