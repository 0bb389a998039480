"""Processes that share out batches, and add what they find in the order of one process.

A sum of floating-point numbers depends on its order. So no process adds what it finds: the first
one adds the terms of all, batch by batch, and its sums are those of one process to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from reid_edge.core.progress import Progress

Add = Callable[[str, "tuple[Tensor, ...]"], None]
"""Takes the name of a sum, and one tensor for each of its parts."""


class Ranks(Protocol):
    """The processes of a command; all call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Return the number of this process, from 0."""

    def deal(self, batches: Sequence[Tensor] = ()) -> list[Tensor | None]:
        """Share out the batches of rank zero; every rank gets every so many, from its own number.

        Args:
            batches: of rank zero; the others have none.

        Returns:
            As many on every rank: None where there are no more batches.
        """

    def exchange(self, values: Tensor) -> Tensor:
        """Return the values (...) of all ranks on every rank: (ranks, ...)."""

    def collect(self, values: Tensor | None) -> Iterator[Tensor]:
        """Yield the values of all ranks that have any, in their order, on rank zero alone."""


def add_terms(
    find: Callable[[Tensor, Add], None],
    batches: Sequence[Tensor],
    add: Add,
    parts: Mapping[str, int],
    ranks: Ranks | None = None,
    progress: Progress | None = None,
) -> None:
    """Find the terms of sums in batches, and add them in the order of the batches.

    Args:
        find: calls its second argument for every term that is in a batch.
        batches: of rank zero; the others have none.
        add: adds a term to a sum; on rank zero alone.
        parts: number of tensors of a term, by the name of the sum; the same on all ranks.
        ranks: share out the batches; None: there is one process.
        progress: called with (done, total): batches of this process.
    """
    if ranks is None:
        for done, batch in enumerate(batches, 1):
            find(batch, add)
            if progress is not None:
                progress(done, len(batches))
        return
    import torch

    shares = ranks.deal(batches)
    for done, dealt in enumerate(shares, 1):
        found: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in parts}
        if dealt is not None:
            find(dealt, lambda name, term: found[name].append(term))  # noqa: B023
        for name, count in parts.items():
            # A layer that is called several times has several terms, in the shapes of the first.
            calls = list(zip(*found[name], strict=True))
            stacked: list[Tensor | None] = [torch.stack(values) for values in calls]
            stacked = stacked or [None] * count
            of_ranks = [list(ranks.collect(part)) for part in stacked]
            for one_rank in zip(*of_ranks, strict=True):
                for term in zip(*one_rank, strict=True):
                    add(name, term)
        if progress is not None:
            progress(done, len(shares))
