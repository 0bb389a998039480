"""Stand-ins of observers give them what they would have seen themselves."""

import copy
import warnings
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from quantize.calibrate import ObserverName, Scheme, _prepare
from quantize.prepared import observer_names
from quantize.shared_calibration import observe_together

pytestmark = pytest.mark.medium


class OneRank:
    """The only process."""

    rank = 0

    def deal(self, batches: Sequence[Tensor] = ()) -> list[Tensor | None]:
        return list(batches)

    def exchange(self, values: Tensor) -> Tensor:
        return values[None]

    def collect(self, values: Tensor | None) -> Iterator[Tensor]:
        if values is not None:
            yield values


class Branches(nn.Module):
    """Its branches share an observer, since ``cat`` takes them with one range."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.first(x), 3 * self.second(x).relu()], dim=1)
        return self.last(both).mean(dim=(2, 3))


@pytest.mark.parametrize("observer", ["histogram", "minmax", "moving_average"])
def test_observers_end_as_if_they_had_seen_the_batches(observer: ObserverName) -> None:
    torch.manual_seed(0)
    prepared = _prepare(Branches().eval(), Scheme(observer=observer))
    shared = copy.deepcopy(prepared)
    names = observer_names(prepared)
    modules = dict(prepared.named_modules(remove_duplicate=False))
    assert len({modules[name] for name in names}) < len(names)
    batches = [torch.randn(2, 3, 8, 8) * scale for scale in (1.0, 0.5, 4.0, 0.0, 2.0)]
    done: list[int] = []
    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
        for batch in batches:
            prepared(batch)
        observe_together(shared, OneRank(), batches, done.append)
    assert (len(done), done[-1]) == (len(batches), sum(map(len, batches)))
    assert sorted(observer_names(shared)) == sorted(names)
    state, expected = shared.state_dict(), prepared.state_dict()
    assert state.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(state[name], values, rtol=0, atol=0, equal_nan=True, msg=name)
