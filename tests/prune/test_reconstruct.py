"""Reconstruction undoes what a cut broke, and never makes a layer worse."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from prune.layer_widths import layer_widths
from prune.plans import linear_plan
from prune.reconstruct import reconstruct
from prune.surgery import cut
from reid_edge.core.errors import PruneError
from reid_edge.models.osnet import CHANNELS_X0_5, CHANNELS_X0_75, OSNet

pytestmark = pytest.mark.medium

WIDTHS = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}


def cut_small(model: nn.Module) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    result = cut(
        model, WIDTHS, example=torch.randn(2, 3, 8, 8), check_input=torch.randn(2, 3, 8, 8)
    )
    return result.model, result.kept


def test_no_layer_gets_worse_and_the_whole_gets_better(small_net: nn.Module) -> None:
    images = torch.randn(64, 3, 8, 8)
    compact, kept = cut_small(small_net)
    wanted = small_net(images)
    before = (compact(images) - wanted).pow(2).sum()
    fits = reconstruct(compact, small_net, kept, images)
    after = (compact(images) - wanted).pow(2).sum()
    assert set(fits) == set(layer_widths(small_net))
    assert all(fit.after <= fit.before for fit in fits.values())
    assert after < 0.8 * before


def test_a_redundant_channel_costs_nothing() -> None:
    # The second half of the channels repeats the first, so the first can make up for it exactly.
    torch.manual_seed(0)
    full = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    with torch.no_grad():
        full[0].weight[:4] = nn.functional.normalize(full[0].weight[:4], dim=1)
        full[0].weight[4:] = 0.5 * full[0].weight[:4]  # so these are the weakest
    result = cut(full, {"0": 4, "2": 4}, example=torch.randn(2, 3, 8, 8),
                 check_input=torch.randn(2, 3, 8, 8))  # fmt: skip
    images = torch.randn(16, 3, 8, 8)
    broken = (result.model(images) - full(images)).abs().max()
    reconstruct(result.model, full, result.kept, images, ridge=1e-6)
    mended = (result.model(images) - full(images)).abs().max()
    assert broken > 0.1
    assert mended < 1e-3


def test_the_shift_goes_into_the_normalisation(small_net: nn.Module) -> None:
    compact, kept = cut_small(small_net)
    means = compact.get_buffer("depthwise_norm.running_mean").clone()
    reconstruct(compact, small_net, kept, torch.randn(32, 3, 8, 8))
    assert not torch.equal(compact.get_buffer("depthwise_norm.running_mean"), means)


class TwoCalls(nn.Module):
    """A convolution that is called twice, with a BatchNorm behind each call."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1, bias=False)
        self.shared = nn.Conv2d(8, 8, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(x))
        return self.second_norm(self.shared(torch.relu(self.first_norm(self.shared(stem)))))


class TwoLayers(nn.Module):
    """Two convolutions in front of one BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 8, 1, bias=False) for _ in range(2))
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.first(x))) + torch.relu(self.norm(self.second(x)))


@pytest.mark.parametrize(
    ("model", "layers"), [(TwoCalls(), ["shared"]), (TwoLayers(), ["first", "second"])]
)
def test_a_shift_that_a_normalisation_cannot_take_is_not_counted(
    model: nn.Module, layers: list[str]
) -> None:
    model.eval()
    before = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    kept = {name: torch.arange(width) for name, width in layer_widths(model).items()}
    images = 1 + torch.rand(32, 3, 4, 4)
    reconstruct(model, before, kept, images)
    for name, value in model.named_buffers():
        assert torch.equal(value, before.get_buffer(name)), name
    assert all(
        not torch.equal(model.get_submodule(name).weight, before.get_submodule(name).weight)
        for name in layers
    )


def test_an_uncut_model_stays_as_it_is(small_net: nn.Module) -> None:
    kept = {name: torch.arange(width) for name, width in layer_widths(small_net).items()}
    same = copy.deepcopy(small_net)
    images = torch.randn(16, 3, 8, 8)
    fits = reconstruct(same, small_net, kept, images)
    assert all(fit.after < 1e-10 for fit in fits.values())
    assert torch.allclose(same(images), small_net(images), atol=1e-5)


def test_osnet() -> None:
    torch.manual_seed(0)
    full, stock = (
        OSNet(channels, num_classes=3, blocks=(1, 1, 1))
        for channels in (CHANNELS_X0_75, CHANNELS_X0_5)
    )
    images = torch.randn(16, 3, 64, 32)
    with torch.no_grad():
        for _ in range(2):
            full.train()(images)
    full.eval()
    (widths,) = linear_plan(layer_widths(full), layer_widths(stock), 1)
    result = cut(full, widths, example=images[:2], check_input=images[:2])
    wanted = full(images)
    before = (result.model(images) - wanted).norm() / wanted.norm()
    fits = reconstruct(result.model, full, result.kept, images)
    after = (result.model(images) - wanted).norm() / wanted.norm()
    assert len(fits) == 80  # 79 convolutions and the embedding layer, each gate once
    assert all(fit.after <= fit.before for fit in fits.values())
    assert after < 0.5 * before


@pytest.mark.parametrize("layer", ["stem", "head"])
def test_values_that_are_not_finite_are_refused(layer: str) -> None:
    torch.manual_seed(0)
    full = nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 1), relu=nn.ReLU(), head=nn.Conv2d(4, 2, 1))
    )
    compact, kept = copy.deepcopy(full), {"stem": torch.arange(4), "head": torch.arange(2)}
    with torch.no_grad():
        (compact if layer == "head" else full).stem.weight.fill_(torch.nan)
    words = {
        "stem": "the output of Sequential is not finite on the images",
        "head": "head: its inputs or outputs are not finite on the images",
    }
    with pytest.raises(PruneError, match=f"^{words[layer]}"):
        reconstruct(compact, full, kept, torch.randn(4, 3, 5, 5))
