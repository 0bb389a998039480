"""Calibration whose batches are shared out over processes, with the ranges of one process.

The histogram of a batch covers the range of all batches until then. So the processes take their
next batches at the same time, and exchange the range of a tensor before they count its values.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from quantize.histogram import QuickHistogramObserver
from quantize.prepared import Observer
from reid_edge.core.exchange import Ranks

# Low and high of no values.
NOTHING = (torch.inf, -torch.inf)


def observe_together(
    prepared: fx.GraphModule,
    ranks: Ranks,
    batches: Sequence[Tensor] = (),
    progress: Callable[[int], None] | None = None,
) -> None:
    """Let the observers of rank zero see the batches of all ranks in the order of one process.

    Args:
        prepared: the result of ``prepare_fx``, the same on all ranks.
        ranks: share out the batches.
        batches: (N, 3, H, W) each, of rank zero.
        progress: called with the number of images seen so far.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    called = [
        modules[str(node.target)]
        for node in prepared.graph.nodes
        if node.op == "call_module" and isinstance(modules[str(node.target)], Observer)
    ]
    calls = Counter(called)
    # In the order of their last calls, which is when they exchange what they saw.
    last = list(dict.fromkeys(reversed(called)))[::-1]
    stand_ins = {observer: _StandIn(observer, calls[observer], ranks) for observer in last}
    names = {name: module for name, module in modules.items() if module in stand_ins}
    for name, observer in names.items():
        prepared.set_submodule(name, stand_ins[observer])
    dealt = ranks.deal(batches)
    for number, batch in enumerate(dealt):
        if batch is not None:
            prepared(batch)
        else:
            for stand_in in stand_ins.values():
                stand_in.exchange([])
        if progress is not None:
            progress(sum(map(len, batches)) * (number + 1) // len(dealt))
    for name, observer in names.items():
        prepared.set_submodule(name, observer)


class _StandIn(nn.Module):
    """Sees tensors in the place of an observer, which gets what all ranks saw on rank zero.

    Args:
        observer: that it stands in for.
        calls: how often it is called in a forward pass.
        ranks: have the same one.
    """

    def __init__(self, observer: nn.Module, calls: int, ranks: Ranks) -> None:
        super().__init__()
        self._give: Callable[..., Any] = (
            observer.add_counts if isinstance(observer, QuickHistogramObserver) else observer
        )
        self._bins = observer.bins if isinstance(observer, QuickHistogramObserver) else 0
        self._calls = calls
        self._ranks = ranks
        self._seen: list[Tensor] = []
        self._range = torch.tensor([NOTHING])

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        # Before the last call, what follows may change it in place.
        self._seen.append(x.detach() if self._calls == 1 else x.detach().clone())
        if len(self._seen) == self._calls:
            self.exchange(self._seen)
            self._seen = []
        return x

    def exchange(self, seen: Sequence[Tensor]) -> None:
        """Exchange what this rank saw in a batch; nothing: it has none."""
        own, kept = torch.tensor([NOTHING] * self._calls), list(seen)
        for call, values in enumerate(seen):
            if values.numel():
                own[call] = torch.stack(torch.aminmax(values))
            if self._bins and own[call].isinf().any():
                # As in PyTorch's observer, infinite values count for nothing.
                kept[call] = values[values.abs() != torch.inf]
                if kept[call].numel():
                    own[call] = torch.stack(torch.aminmax(kept[call]))
                else:
                    own[call] = torch.tensor(NOTHING)
        found = self._ranks.exchange(own)  # (ranks, calls, 2), in the order of one process
        until = torch.cat([self._range, found.flatten(0, 1)])
        lows, highs = until[:, 0].cummin(0).values, until[:, 1].cummax(0).values
        self._range = torch.stack([lows[-1:], highs[-1:]], dim=1)
        ranges = torch.stack([lows[1:], highs[1:]], dim=1).reshape(found.shape)
        if not self._bins:
            for pair in found.flatten(0, 1) if self._ranks.rank == 0 else ():
                if not pair[0] > pair[1]:
                    self._give(pair)
            return
        counted = None
        if kept:
            counted = torch.stack(
                [
                    torch.histc(values, self._bins, min=float(low), max=float(high))
                    if values.numel()
                    else torch.zeros(self._bins)
                    for values, (low, high) in zip(kept, ranges[self._ranks.rank], strict=True)
                ]
            )
        for rank, counts in enumerate(self._ranks.collect(counted)):
            for call, (low, high) in enumerate(ranges[rank]):
                if not found[rank, call, 0] > found[rank, call, 1]:
                    self._give(counts[call], low, high)
