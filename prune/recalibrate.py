"""BatchNorm statistics after surgery."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reid_edge.core.errors import PruneError
from reid_edge.core.exchange import Add, Ranks, add_terms
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.progress import Progress

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@freed_memory_kept()
@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Sequence[Tensor], progress: Progress | None = None
) -> None:
    """Replace the running statistics of every BatchNorm by those of some batches, in place.

    The weights do not change, so the model computes something else afterwards. This is right after
    a surgery without reconstruction. The statistics are the plain average over the batches.

    Args:
        model: any module; it is left in evaluation mode.
        batches: inputs (N, 3, H, W), N at least 2.
        progress: called with (batches done, batches in all).

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
        for done, batch in enumerate(batches, 1):
            model(batch)
            if progress is not None:
                progress(done, len(batches))
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


AskMoments = Callable[[nn.Module], Ranks]
"""Lets other processes call :func:`find_moments` for a model."""


@freed_memory_kept()
@torch.no_grad()
def rebase(
    model: nn.Module,
    batches: Sequence[Tensor],
    ask: AskMoments | None = None,
    progress: Progress | None = None,
) -> None:
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
        ask: lets other processes take their share of the batches, and returns them; the result is
            the same. None: this process takes all.
        progress: called with (done, total): batches of this process.
    """
    model.eval()
    norms = _norms_to_rebase(model)
    sums = {name: _Moments() for name in norms}
    add_terms(
        partial(_see_inputs, model),
        batches,
        lambda name, term: sums[name].add(*term),
        dict.fromkeys(norms, 3),
        ask(model) if ask is not None else None,
        progress,
    )
    for name, norm in norms.items():
        if sums[name].count < 2:
            continue
        mean, variance = sums[name].mean_and_variance()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        former_std = (norm.running_var.double() + norm.eps).sqrt()
        scale = norm.weight.double() / former_std
        shift = norm.bias.double() + scale * (mean - norm.running_mean.double())
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


@torch.no_grad()
def find_moments(model: nn.Module, ranks: Ranks) -> None:
    """Look at the batches of :func:`rebase` that rank zero deals to this process."""
    parts = dict.fromkeys(_norms_to_rebase(model.eval()), 3)
    add_terms(partial(_see_inputs, model), (), lambda *_: None, parts, ranks)


def _norms_to_rebase(model: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORMS)
        and module.affine
        and module.bias.requires_grad
        and module.running_mean is not None
    }


def _see_inputs(model: nn.Module, batch: Tensor, add: Add) -> None:
    """Run a model on a batch; every call of a normalisation gives a term."""

    def see(name: str, _norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].double().transpose(0, 1).flatten(1)
        add(name, (rows.sum(1), rows.pow(2).sum(1), torch.tensor(rows.shape[1])))

    with ExitStack() as hooks:
        for name, norm in _norms_to_rebase(model).items():
            hooks.enter_context(norm.register_forward_pre_hook(partial(see, name)))
        model(batch)


@dataclass
class _Moments:
    count: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add(self, total: Tensor, squares: Tensor, count: Tensor) -> None:
        """Add sums (C,) over rows, and their number."""
        self.count += int(count)
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance (C,)."""
        assert self.total is not None
        assert self.squares is not None
        mean = self.total / self.count
        centred = (self.squares - self.count * mean.pow(2)).clamp_min(0)
        return mean, centred / (self.count - 1)
