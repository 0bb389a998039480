"""Costs are the published ones."""

import pytest
import torch
from torch import nn

from prune.layers import layer_costs, layer_widths, model_cost
from reid_edge.models import build_model

# torchreid's model zoo; parameters counted without the classifier and each weight once.
PUBLISHED = {
    "osnet_x1_0": (2_169_508, 978.9),
    "osnet_x0_75": (1_285_754, 571.8),
    "osnet_x0_5": (630_034, 272.9),
    "osnet_x0_25": (201_864, 82.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_are_the_published_ones(name: str) -> None:
    cost = model_cost(build_model(name), torch.zeros(1, 3, 256, 128))
    parameters, millions = PUBLISHED[name]
    assert cost.parameters == parameters
    assert cost.macs / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_layer_called_twice_counts_its_work_twice(small_net: nn.Module) -> None:
    costs = layer_costs(small_net, torch.zeros(1, 3, 4, 6))
    assert costs["gate"].macs == 2 * 8 * 8 * 4 * 6
    assert costs["gate"].parameters == 8 * 8 + 8
    assert costs["depthwise"].macs == 8 * 9 * 4 * 6
    assert costs["head"].macs == 8 * 5


def test_counting_leaves_the_model_as_it_was(small_net: nn.Module) -> None:
    small_net.train()
    statistics = small_net.get_buffer("stem_norm.running_mean").clone()
    model_cost(small_net, torch.randn(1, 3, 8, 8))
    assert small_net.training
    assert torch.equal(small_net.get_buffer("stem_norm.running_mean"), statistics)
    assert not any(module._forward_hooks for module in small_net.modules())


def test_widths(small_net: nn.Module) -> None:
    assert layer_widths(small_net) == {
        "stem": 8, "pointwise": 8, "depthwise": 8, "gate": 8, "head": 5,
    }  # fmt: skip
