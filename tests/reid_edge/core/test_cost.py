"""Costs are the published ones."""

import pytest
import torch
from torch import Tensor, nn

from reid_edge.core.cost import called_parameters, counted_macs, layer_costs, model_cost
from reid_edge.models import build_model

# torchreid's model zoo; parameters counted without the classifier and each weight once.
PUBLISHED = {
    "osnet_x1_0": (2_169_508, 978.9),
    "osnet_x0_75": (1_285_754, 571.8),
    "osnet_x0_5": (630_034, 272.9),
    "osnet_x0_25": (201_864, 82.3),
}


class GatedNet(nn.Module):
    """A depthwise convolution, a gate that is called twice, a linear head, one layer not called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)
        self.unused = nn.Linear(8, 100)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem_norm(self.stem(x))
        branch = self.depthwise(stem)
        gated = stem * self.gate(stem).sigmoid() + branch * self.gate(branch).sigmoid()
        return self.head(gated.mean((2, 3)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_are_the_published_ones(name: str) -> None:
    cost = model_cost(build_model(name), torch.zeros(1, 3, 256, 128))
    parameters, millions = PUBLISHED[name]
    assert cost.parameters == parameters
    assert cost.macs / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_layer_called_twice_counts_its_work_twice() -> None:
    costs = layer_costs(GatedNet(), torch.zeros(1, 3, 4, 6))
    assert list(costs) == ["stem", "depthwise", "gate", "head"]
    assert costs["gate"].macs == 2 * 8 * 8 * 4 * 6
    assert costs["gate"].parameters == 8 * 8 + 8
    assert costs["depthwise"].macs == 8 * 9 * 4 * 6
    assert costs["head"].macs == 8 * 5


def test_only_the_first_image_counts() -> None:
    assert model_cost(GatedNet(), torch.zeros(3, 3, 4, 6)) == model_cost(
        GatedNet(), torch.zeros(1, 3, 4, 6)
    )


def test_layers_that_are_not_called_have_no_cost() -> None:
    net = GatedNet()
    whole = sum(parameter.numel() for parameter in net.parameters())
    assert model_cost(net, torch.zeros(1, 3, 4, 6)).parameters == whole - (8 * 100 + 100)
    assert called_parameters(net, ["stem", "depthwise", "gate", "head", "unused"]) == whole


def test_calls_are_counted_in_their_order_under_the_names_given() -> None:
    net = GatedNet().eval()
    with counted_macs([("a", net.gate), ("b", net.stem), ("a", net.head)]) as calls:
        net(torch.zeros(1, 3, 4, 6))
    assert calls == [
        ("b", 8 * 27 * 4 * 6), ("a", 8 * 8 * 4 * 6), ("a", 8 * 8 * 4 * 6), ("a", 8 * 5),
    ]  # fmt: skip


def test_counting_leaves_the_model_as_it_was() -> None:
    net = GatedNet().train()
    statistics = net.get_buffer("stem_norm.running_mean").clone()
    model_cost(net, torch.randn(1, 3, 8, 8))
    assert net.training
    assert torch.equal(net.get_buffer("stem_norm.running_mean"), statistics)
    assert not any(module._forward_hooks for module in net.modules())


def test_no_hook_stays_behind_when_the_forward_pass_fails() -> None:
    net = GatedNet()
    with pytest.raises(RuntimeError):
        model_cost(net, torch.zeros(1, 4, 8, 8))
    assert not any(module._forward_hooks for module in net.modules())
