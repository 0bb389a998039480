import copy

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.call_sites import call_sites, split_call_sites
from reid_edge.core.errors import QuantizeError
from reid_edge.models import build_model


class Siamese(nn.Module):
    """One convolution on two inputs of different range, and a trap: a taken name."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.shared.add_module("0_call2", nn.Conv2d(4, 2, 1))
        self.never_called = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.shared[1](self.shared[0](x))
        second = self.shared[1](self.shared[0](10 * x))
        return self.shared[2](first + second)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_each_call_has_a_name_of_its_own() -> None:
    assert call_sites(Siamese()) == {
        "shared.0": "shared.0",
        "shared.1": "shared.1",
        "shared.0_call2_": "shared.0",
        "shared.1_call2": "shared.1",
        "shared.0_call2": "shared.0_call2",
    }


def test_split_gives_each_call_a_module_of_its_own() -> None:
    split = split_call_sites(Siamese())
    called = [str(node.target) for node in split.graph.nodes if node.op == "call_module"]
    assert called == list(call_sites(Siamese()))
    assert split.get_submodule("shared.0") is not split.get_submodule("shared.0_call2_")


def test_split_model_gives_the_same_bits() -> None:
    model = Siamese()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(split_call_sites(model)(images), model(images))


def test_split_leaves_the_model_alone() -> None:
    model = Siamese()
    before = copy.deepcopy(model.state_dict())
    split = split_call_sites(model)
    with torch.no_grad():
        for parameter in split.parameters():
            parameter.zero_()
    assert type(model) is Siamese
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_split_twice_changes_nothing_more() -> None:
    split = split_call_sites(Siamese())
    assert list(call_sites(split)) == list(call_sites(split_call_sites(split)))
    assert all(site == module for site, module in call_sites(split).items())


def test_osnet_gates_are_split_bit_for_bit() -> None:
    model = build_model("osnet_x0_25").eval()
    split = split_call_sites(model)
    sites = call_sites(model)
    gate_calls = [site for site, module in sites.items() if module == "conv2.0.gate.fc1"]
    assert gate_calls == ["conv2.0.gate.fc1"] + [f"conv2.0.gate.fc1_call{k}" for k in (2, 3, 4)]
    images = torch.randn(3, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(split(images), model(images))


def test_a_graph_module_can_be_split() -> None:
    model = Siamese()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(split_call_sites(fx.symbolic_trace(model))(images), model(images))


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(QuantizeError, match=r"^Branching cannot be traced by torch\.fx: .+$"):
        split_call_sites(Branching())
