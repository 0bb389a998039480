"""What does not treat channels one by one is refused before anything is removed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prune.dry_run import check_cut
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.surgery import Cut, cut
from reid_edge.core.errors import PruneError

pytestmark = pytest.mark.medium

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Function = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """A function of the maps of a convolution."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    """A stem, a block, a layer that reads it, a linear head."""

    def __init__(self, function: Function, **layers: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.block = Block(function)
        self.last = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(F.relu(self.stem(x)))
        return self.head(self.last(x).mean((2, 3)))

    def middle(self, x: Tensor) -> Tensor:
        return self.block(x)


def shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    groups = x.view(batch, 2, channels // 2, height, width)
    return groups.transpose(1, 2).reshape(batch, -1, height, width)


def run_cut(model: nn.Module, plan: dict[str, int]) -> Cut:
    return cut(model.eval(), plan, example=IMAGES[:2], check_input=IMAGES)


REFUSED: list[tuple[Function, str]] = [
    (lambda x: x * x.mean(1, keepdim=True), "'mean' in 'block' does not treat channels one by one"),
    (lambda x: x * x.var(1, keepdim=True), "'var' in 'block' does not treat channels one by one"),
    (lambda x: x.softmax(1), "'softmax' in 'block' does not treat channels one by one"),
    (lambda x: x.cumsum(1), "'cumsum' in 'block' makes other values of zeros, which 'last' reads"),
    (lambda x: x.sigmoid(), "'sigmoid' in 'block' makes other values of zeros, which 'last' reads"),
    (lambda x: F.relu(x.exp()), "'exp' in 'block' makes other values of zeros, which 'last' reads"),
    (lambda x: x + 1, "'add' in 'block' makes other values of zeros, which 'last' reads"),
    (shuffle, "'view' in 'block' spreads channels over several dimensions, as a channel shuffle"),
    (lambda x: x.reshape(-1, 8, 64).unflatten(2, (8, 8)), "'reshape' in 'block' spreads"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
def test_refusals_come_before_the_surgery(
    function: Function, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surgery(*_: object) -> None:
        pytest.fail("the surgery was begun")

    monkeypatch.setattr("prune.surgery.remove_masked", surgery)
    torch.manual_seed(0)
    model = Net(function)
    with pytest.raises(PruneError, match=rf"^{words}.* of 'stem' cannot be cut; leave") as error:
        run_cut(model, {"stem": 5})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("function", "_words"), REFUSED)
def test_what_a_cut_does_not_reach_may_stay(function: Function, _words: str) -> None:
    assert run_cut(Net(function), {"last": 5}).difference < 1e-5


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.sigmoid(),
        lambda x: x * x.sum(1, keepdim=True),
        lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-3),
        lambda x: x * F.hardsigmoid(-x),
        lambda x: x.clamp(min=1e-6).pow(3).sqrt(),
        lambda x: F.relu(9 - x) * x,
        lambda x: x.view(x.size(0), -1).view(x.shape),
        lambda x: x.flip(1),
    ],
)
def test_what_keeps_removed_channels_at_zero_is_cut(function: Function) -> None:
    torch.manual_seed(0)
    result = run_cut(Net(function), {"stem": 5})
    assert result.difference < 1e-4
    assert layer_widths(result.model)["stem"] == 5


class Twice(Net):
    """Calls a layer and a normalisation on the outputs of two layers."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__(
            nn.Identity(),
            a=nn.Conv2d(8, 8, 1),
            b=nn.Conv2d(8, 8, 3, padding=1),
            norm=nn.BatchNorm2d(8),
            shared=shared,
        )
        self.second = nn.Conv2d(8, 8, 1)

    def middle(self, x: Tensor) -> Tensor:
        first, second = self.norm(self.a(x)), self.norm(self.b(x))
        return self.second(F.relu(self.shared(first))) * self.shared(second).sigmoid()


class OneSlope(Net):
    """Calls an activation with a single weight on maps of different widths."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), wide=nn.Conv2d(8, 12, 1), act=nn.PReLU())
        self.narrow = nn.Conv2d(12, 8, 1)

    def middle(self, x: Tensor) -> Tensor:
        return self.act(self.narrow(self.act(self.wide(self.act(x)))))


def test_an_activation_with_one_weight_may_be_shared() -> None:
    assert run_cut(OneSlope(), {"stem": 5, "wide": 7}).difference < 1e-5


class InTurn(Net):
    """Calls a layer on its own output."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), again=nn.Conv2d(8, 8, 3, padding=1))

    def middle(self, x: Tensor) -> Tensor:
        return F.relu(self.again(F.relu(self.again(x))))


@pytest.mark.parametrize(
    ("make", "group", "plan"),
    [
        (lambda: Twice(nn.Conv2d(8, 8, 1)), ("a", "b"), {"a": 5, "b": 5}),
        (lambda: Twice(nn.ConvTranspose2d(8, 8, 1)), ("a", "b"), {"a": 5, "b": 5}),
        (InTurn, ("again", "stem"), {"again": 5, "stem": 5}),
    ],
)
def test_modules_that_are_called_twice_tie_what_they_read(
    make: Callable[[], nn.Module],
    group: tuple[str, ...],
    plan: dict[str, int],
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(2)
    model = make().eval()
    randomise_normalisation(model)
    assert group in find_groups(model, IMAGES[:2])
    with pytest.raises(PruneError, match=f"'{group[0]}' and '{group[1]}' share their channels"):
        run_cut(model, {group[0]: 5})
    result = run_cut(model, plan)
    assert result.difference < 1e-5
    assert {name: layer_widths(result.model)[name] for name in plan} == plan
    kept = [result.kept[name] for name in group]
    assert torch.equal(*kept)
    fits = reconstruct(result.model, model, result.kept, torch.rand(32, 3, 8, 8))
    assert all(fit.after <= fit.before for fit in fits.values())


def test_a_module_that_is_called_on_what_does_not_go_together_is_refused() -> None:
    class Mixed(Net):
        def middle(self, x: Tensor) -> Tensor:
            return self.get_submodule("a")(x) + self.get_submodule("a")(self.block(x))

    words = "^'a' is called several times, on channels that do not go together, so .* of 'stem'"
    model = Mixed(nn.Conv2d(8, 8, 1), a=nn.Conv2d(8, 8, 1))
    with pytest.raises(PruneError, match=words):
        check_cut(model.eval(), {"stem": 5}, [], IMAGES[:2])
