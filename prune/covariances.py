"""Covariances of what layers are given and return, over images."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prune.least_squares import choose_places
from reid_edge.core.exchange import Add, Ranks, add_terms
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.modes import evaluating
from reid_edge.core.progress import Progress

IMAGES_AT_ONCE = 32
PLACES_A_IMAGE = 64


@dataclass(frozen=True)
class Places:
    """Where to look.

    Attributes:
        inputs: channels by layer whose inputs to look at.
        outputs: channels by layer whose outputs to look at.
    """

    inputs: dict[str, int]
    outputs: dict[str, int]

    @property
    def parts(self) -> dict[str, int]:
        """Return the number of tensors of a term by the name of its sum: products, rows, count."""
        names = [f"input {name}" for name in self.inputs]
        return dict.fromkeys([*names, *(f"output {name}" for name in self.outputs)], 3)


AskCovariances = Callable[[nn.Module, Places], Ranks]
"""Lets other processes call :func:`look_at_share` for a model."""


@freed_memory_kept()
def covariances(
    model: nn.Module,
    images: Tensor,
    places: Places,
    ask: AskCovariances | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the covariance (C, C) of the inputs of some layers, and of the outputs of others.

    Args:
        model: to run; it is left as it was.
        images: inputs (N, 3, H, W).
        places: where to look.
        ask: lets other processes take their share of the images, and returns them; None: this
            process takes all.
        progress: called with (done, total): batches of this process.
    """
    batches = torch.split(images, IMAGES_AT_ONCE)
    sums = {
        kind: {name: _Moments(channels) for name, channels in layers.items()}
        for kind, layers in (("input", places.inputs), ("output", places.outputs))
    }

    def add(key: str, term: tuple[Tensor, ...]) -> None:
        kind, _, name = key.partition(" ")
        sums[kind][name].add(*term)

    ranks = ask(model, places) if ask is not None else None
    add_terms(partial(_look, model, places), batches, add, places.parts, ranks, progress)
    read, left = ({n: m.covariance() for n, m in seen.items()} for seen in sums.values())
    return read, left


@torch.no_grad()
def look_at_share(model: nn.Module, places: Places, ranks: Ranks) -> None:
    """Look at the batches that rank zero deals to this process."""
    add_terms(partial(_look, model, places), (), lambda *_: None, places.parts, ranks)


def _look(model: nn.Module, places: Places, batch: Tensor, add: Add) -> None:
    """Run a model on a batch; every call of a layer gives a term."""

    def see(key: str, channels: int, layer: nn.Module, values: Tensor) -> None:
        # A linear layer may be given tokens.
        rows = values.flatten(0, -2) if isinstance(layer, nn.Linear) else values
        add(key, _moments(rows, channels))

    def see_input(key: str, channels: int, layer: nn.Module, given: Any) -> None:
        see(key, channels, layer, given[0])

    def see_output(key: str, channels: int, layer: nn.Module, _given: Any, output: Tensor) -> None:
        see(key, channels, layer, output)

    with ExitStack() as hooks, evaluating(model):
        for name, channels in places.inputs.items():
            hook = partial(see_input, f"input {name}", channels)
            hooks.enter_context(model.get_submodule(name).register_forward_pre_hook(hook))
        for name, channels in places.outputs.items():
            hook = partial(see_output, f"output {name}", channels)
            hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
        model(batch)


def _moments(values: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x x' (C, C) and x (C,), summed over rows x of maps or vectors, and the number of rows.

    The sums are in double precision: in single precision, rounding would hide the variance of a
    nearly constant channel whose mean is far from zero.

    Args:
        values: maps (N, C, H, W) or vectors (N, C * places).
        channels: C.
    """
    maps = values.reshape(len(values), channels, -1)
    chosen = choose_places(maps.shape[2], PLACES_A_IMAGE)
    rows = maps[:, :, chosen].transpose(1, 2).flatten(0, 1).double()
    return rows.T @ rows, rows.sum(0), torch.tensor(len(rows))


class _Moments:
    """Sums of what :func:`_moments` returns."""

    def __init__(self, channels: int) -> None:
        self._products = torch.zeros(channels, channels, dtype=torch.float64)
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._count = 0

    def add(self, products: Tensor, row: Tensor, count: Tensor) -> None:
        """Add one term."""
        self._products += products
        self._sum += row
        self._count += int(count)

    def covariance(self) -> Tensor:
        """Return the covariance (C, C); a shift compensates the mean."""
        mean = self._sum / self._count
        return self._products / self._count - torch.outer(mean, mean)
