"""The channels that others can make up for go; those that nothing makes up for stay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from prune.criteria import Criterion
from prune.cut import cut
from prune.layers import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.reconstruction_scores import reconstruction_scores
from reid.models import build_model

Randomise = Callable[[nn.Module], None]


def repeating_net() -> nn.Module:
    """Channels 4 to 7 repeat 0 to 3, louder."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()
    with torch.no_grad():
        net[0].weight[4:] = 3 * net[0].weight[:4]
    return net


def test_one_of_every_two_copies_stays() -> None:
    net, pictures = repeating_net(), torch.randn(16, 3, 8, 8)
    scores = reconstruction_scores(net, pictures, widths={"0": 4}, groups=[])
    kept = scores["0"].topk(4).indices
    assert sorted((kept % 4).tolist()) == [0, 1, 2, 3]
    result = cut(net, {"0": 4}, example=pictures[:2], check_input=pictures[:2],
                 criterion="reconstruction", measured=scores, groups=[])  # fmt: skip
    with torch.no_grad():
        wanted = net(pictures)
        reconstruct(result.model, net, result.kept, pictures, ridge=1e-6)
        assert (result.model(pictures) - wanted).norm() < 1e-3 * wanted.norm()


def test_what_nothing_reads_goes() -> None:
    net, pictures = repeating_net(), torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        net[2].weight[:, [1, 2, 5, 6]] = 0
    scores = reconstruction_scores(net, pictures, widths={"0": 4}, groups=[])
    assert sorted((scores["0"].topk(2).indices % 4).tolist()) == [0, 3]


def test_outputs_that_nothing_reads_are_scored_by_themselves() -> None:
    net, pictures = repeating_net(), torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        net[2].weight[3] = net[2].weight[0]
    scores = reconstruction_scores(net, pictures, widths={"2": 3}, groups=[])
    assert scores["2"].argmin() in (0, 3)
    assert "0" not in scores


def test_members_of_a_group_share_their_scores_and_the_model_stays(small_net: nn.Module) -> None:
    pictures = torch.randn(8, 3, 8, 8)
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    groups = find_groups(small_net, pictures[:2])
    widths = dict.fromkeys(groups[0], 5)
    scores = reconstruction_scores(small_net.train(), pictures, widths=widths, groups=groups)
    assert scores.keys() == set(groups[0])
    assert all(torch.equal(scores["stem"], score) for score in scores.values())
    assert sorted(scores["stem"].tolist()) == list(range(1, 9))
    assert small_net.training
    assert all(torch.equal(before[name], value) for name, value in small_net.state_dict().items())


def half_of_mobilenet(model: nn.Module) -> dict[str, int]:
    widths = layer_widths(model)
    return {name: w if name == "classifier.1" else w // 2 for name, w in widths.items()}


def error_after_reconstruction(
    model: nn.Module, pictures: Tensor, criterion: Criterion, **options: Any
) -> float:
    result = cut(model, example=pictures[:2], check_input=pictures[:2],
                 criterion=criterion, **options)  # fmt: skip
    with torch.no_grad():
        wanted = model(pictures)
        reconstruct(result.model, model, result.kept, pictures)
        return float((result.model(pictures) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", ["osnet", "resnet18", "mobilenet"])
def test_less_is_lost_than_by_norms(name: str, randomise_normalisation: Randomise) -> None:
    torch.manual_seed(0)
    if name == "mobilenet":
        model: nn.Module = mobilenet_v2(weights=None, num_classes=10)
        widths = half_of_mobilenet(model)
    else:
        source, target = {
            "osnet": ("osnet_x0_5", "osnet_x0_25"),
            "resnet18": ("resnet18_bnneck", "resnet18_bnneck_x0_5"),
        }[name]
        model = build_model(source, embedding_dim=64)
        widths = layer_widths(build_model(target, embedding_dim=64))
    randomise_normalisation(model.eval())
    pictures = torch.randn(16, 3, 64, 32)
    groups = find_groups(model, pictures[:2])
    scores = reconstruction_scores(model, pictures, widths=widths, groups=groups)
    ours = error_after_reconstruction(
        model, pictures, "reconstruction", widths=widths, groups=groups, measured=scores
    )
    assert ours < error_after_reconstruction(model, pictures, "l2", widths=widths, groups=groups)
