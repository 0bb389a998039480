"""BatchNorm statistics after surgery."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reid_edge.core.errors import PruneError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every BatchNorm by those of some batches, in place.

    The weights do not change, so the model computes something else afterwards. This is right after
    a surgery without reconstruction. The statistics are the plain average over the batches.

    Args:
        model: any module; it is left in evaluation mode.
        batches: inputs (N, 3, H, W), N at least 2.

    Raises:
        PruneError: a statistic is not finite.
    """
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        for batch in batches:
            model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None:
            assert module.running_var is not None
            if not (module.running_mean.isfinite().all() and module.running_var.isfinite().all()):
                raise PruneError(
                    f"{name}: its BatchNorm statistics are not finite on the images; the model's "
                    "weights are damaged, or its training diverged"
                )


@torch.no_grad()
def rebase(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm the statistics of some batches without changing what it computes.

    Reconstruction solves for weights that fit the statistics of the full-width model, but the
    reconstructed outputs vary less than the original ones. Training normalises by the batch, so it
    would start from another function than the reconstructed one. This function sets the running
    statistics to those of the batches and changes weight and shift so that the output stays the
    same. A BatchNorm with a fixed shift (the BNNeck's is zero) cannot absorb this and is not
    changed.

    Args:
        model: any module; it is left in evaluation mode.
        batches: inputs (N, 3, H, W).
    """
    model.eval()
    norms = [
        module
        for module in model.modules()
        if isinstance(module, BATCH_NORMS)
        and module.affine
        and module.bias.requires_grad
        and module.running_mean is not None
    ]
    sums = [_Moments() for _ in norms]
    handles = [
        norm.register_forward_pre_hook(partial(_Moments.see_input, moments))
        for norm, moments in zip(norms, sums, strict=True)
    ]
    try:
        for batch in batches:
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    for norm, moments in zip(norms, sums, strict=True):
        if moments.count < 2:
            continue
        mean, variance = moments.mean_and_variance()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        former_std = (norm.running_var.double() + norm.eps).sqrt()
        scale = norm.weight.double() / former_std
        shift = norm.bias.double() + scale * (mean - norm.running_mean.double())
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


@dataclass
class _Moments:
    count: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add(self, value: Tensor) -> None:
        """Add an input (N, C, ...) of a normalisation."""
        rows = value.double().transpose(0, 1).flatten(1)
        total, squares = rows.sum(1), rows.pow(2).sum(1)
        self.count += rows.shape[1]
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares

    def see_input(self, _norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add the input of a normalisation; a forward pre-hook."""
        self.add(inputs[0])

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance (C,)."""
        assert self.total is not None
        assert self.squares is not None
        mean = self.total / self.count
        centred = (self.squares - self.count * mean.pow(2)).clamp_min(0)
        return mean, centred / (self.count - 1)
