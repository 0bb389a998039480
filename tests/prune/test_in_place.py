"""Who reads a value that is written over reads what was written, in any order of reading."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prune.in_place import out_of_place
from prune.reconstruct import reconstruct
from prune.surgery import cut
from prune.tracing import trace
from reid_edge.core.errors import PruneError

Middle = Callable[[nn.Module, Tensor], Tensor]


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))


class Net(nn.Module):
    """A stem, what a test is about, a linear head."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.a, self.b, self.relu = conv(), conv(), nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 5)
        self._middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self._middle(self, self.stem(x))).mean((2, 3)))


def sum_as_a_statement(net: nn.Module, x: Tensor) -> Tensor:
    y = net.a(x)
    y.add_(x)
    return net.b(y)


def plain_sum(net: nn.Module, x: Tensor) -> Tensor:
    return net.b(net.a(x) + x)


def activation_as_a_statement(net: nn.Module, x: Tensor) -> Tensor:
    x.relu_()
    torch.relu_(x)
    F.relu(x, inplace=True)
    return net.b(net.a(x)) + x


def activation_first(net: nn.Module, x: Tensor) -> Tensor:
    # The shortcut is the activated value: the activation works in place.
    return net.b(net.a(net.relu(x))) + x


def plain_activation(net: nn.Module, x: Tensor) -> Tensor:
    x = torch.relu(x)
    return net.b(net.a(x)) + x


def several_steps(net: nn.Module, x: Tensor) -> Tensor:
    side = net.a(x)
    x.clamp_(-1, 1)
    x.mul_(2.0)
    return net.b(x) + side


def plain_steps(net: nn.Module, x: Tensor) -> Tensor:
    return net.b(x.clamp(-1, 1) * 2.0) + net.a(x)


def functional_steps(net: nn.Module, x: Tensor) -> Tensor:
    side = net.a(x)
    F.leaky_relu_(x, 0.5)
    F.elu_(x)
    F.hardtanh_(x, -0.5, 1.5)
    return net.b(x) + side


def plain_functional_steps(net: nn.Module, x: Tensor) -> Tensor:
    return net.b(F.hardtanh(F.elu(F.leaky_relu(x, 0.5)), -0.5, 1.5)) + net.a(x)


def after_cut_and_reconstruction(
    middle: Middle, randomise_normalisation: Callable[[nn.Module], None]
) -> dict[str, Tensor]:
    torch.manual_seed(2)
    model = Net(middle).eval()
    randomise_normalisation(model)
    images = torch.rand(32, 3, 16, 16)
    # What is tied by the sums goes together.
    plan = {"stem.0": 9, "a.0": 9, "b.0": 9}
    result = cut(model, plan, example=images[:2], check_input=images[:2])
    wanted = model(images)
    before = (result.model(images) - wanted).norm()
    reconstruct(result.model, model, result.kept, images)
    assert (result.model(images) - wanted).norm() < 0.7 * before
    return result.model.state_dict()


@pytest.mark.parametrize(
    ("middle", "plain"),
    [
        (sum_as_a_statement, plain_sum),
        (activation_as_a_statement, plain_activation),
        (activation_first, plain_activation),
        (several_steps, plain_steps),
        (functional_steps, plain_functional_steps),
    ],
)
def test_what_works_in_place_is_reconstructed_like_what_does_not(
    middle: Middle, plain: Middle, randomise_normalisation: Callable[[nn.Module], None]
) -> None:
    found = after_cut_and_reconstruction(middle, randomise_normalisation)
    expected = after_cut_and_reconstruction(plain, randomise_normalisation)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def another_name(net: nn.Module, x: Tensor) -> Tensor:
    shortcut = x
    x += net.a(x)
    return net.b(x) + shortcut


def a_view(net: nn.Module, x: Tensor) -> Tensor:
    tokens = x.flatten(2)
    tokens.relu_()
    return net.b(net.a(x)) + x


@pytest.mark.parametrize("middle", [another_name, a_view])
def test_a_trace_that_is_not_the_model_is_refused(middle: Middle) -> None:
    torch.manual_seed(2)
    model, images = Net(middle).eval(), torch.rand(4, 3, 16, 16)
    plan = {"stem.0": 9, "a.0": 9, "b.0": 9}
    result = cut(model, plan, example=images[:2], check_input=images[:2])
    with pytest.raises(PruneError, match=r"the model and its torch.fx trace differ by .* in place"):
        reconstruct(result.model, model, result.kept, images)


def zeroed(net: nn.Module, x: Tensor) -> Tensor:
    side = net.a(x)
    x.zero_()
    return net.b(x) + side


def test_what_works_in_place_only_is_refused() -> None:
    graph = trace(Net(zeroed))
    refused = pytest.raises(PruneError, match="calls 'zero_', which works in place only")
    with refused, out_of_place(graph):
        pass


def test_python_words_are_not_in_place() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            small, large = x > 0, x < 1
            both = small & large
            return x * both + small

    graph = trace(Masked())
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(graph(x), Masked()(x))
