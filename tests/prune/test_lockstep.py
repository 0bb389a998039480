"""Two networks in step: every value right, and every layer behind what it depends on."""

import copy

import pytest
import torch
from torch import Tensor, nn

from prune.lockstep import Lockstep, layer_calls, layer_order
from prune.reconstruct import reconstruct
from prune.tracing import trace
from reid_edge.models import build_model


class Turns(nn.Module):
    """Two layers that are called in turns, and one that reads what came between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.between, self.head = nn.Conv2d(3, 2, 1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.b(torch.relu(self.a(x))))
        between = self.between(first)
        second = torch.relu(self.b(torch.relu(self.a(first))))
        return self.head(torch.cat([between, second], 1).mean((2, 3)))


class Early(nn.Module):
    """A layer whose last call comes behind that of a layer which reads its first one."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.reader, self.other = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        read = self.reader(torch.relu(self.shared(x)))
        return read + self.shared(self.other(x))


def order(model: nn.Module) -> list[str]:
    return layer_order(layer_calls(trace(model)))


def test_a_layer_comes_behind_all_that_it_depends_on() -> None:
    assert order(Early()) == ["other", "shared", "reader"]
    assert order(Turns()) == ["a", "b", "between", "head"]
    model = build_model("osnet_x0_25")
    assert order(model) == list(layer_calls(trace(model)))


@torch.no_grad()
def calls_of(model: nn.Module, name: str, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return input and output of every call of a layer."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[0], output))
    )
    model(images)
    handle.remove()
    return seen


@pytest.mark.parametrize("model", [Turns(), Early()])
def test_values_are_those_of_the_network_as_it_is_now(model: nn.Module) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 5, 5)
    full = copy.deepcopy(model)
    walk = Lockstep(trace(model), trace(full), images)
    for name in walk.layer_order():
        seen, wanted = (calls_of(network, name, images) for network in (model, full))
        for call, (given, _), (_, output) in zip(walk.calls(name), seen, wanted, strict=True):
            assert torch.equal(walk.compact_input(call), given)
            assert torch.equal(walk.full_output(call), output)
        with torch.no_grad():
            model.get_submodule(name).weight.mul_(1.5)
        walk.changed(name)


@pytest.mark.parametrize("model", [Turns(), Early()])
def test_a_network_that_is_whole_is_left_as_it_is(model: nn.Module) -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 5, 5)
    expected = model.eval()(images)
    kept = {n: torch.arange(len(model.get_submodule(n).weight)) for n in order(model)}
    fits = reconstruct(model, model, kept, images)
    assert all(fit.after <= fit.before < 1e-12 for fit in fits.values())
    assert torch.allclose(model(images), expected, atol=1e-4)
