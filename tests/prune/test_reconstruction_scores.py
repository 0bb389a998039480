"""The channels that others can make up for go; those that nothing makes up for stay."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from prune.budgets import by_loss
from prune.costs import CostModel
from prune.criteria.criterion import ScoringData
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.readers import Reader, find_readers
from prune.reconstruct import reconstruct
from prune.reconstruction_scores import reconstruction_errors, reconstruction_scores
from prune.surgery import cut
from prune.width_options import Unit, WidthOptions
from reid_edge.core.errors import PruneError
from reid_edge.models import build_model
from reid_edge.models.resnet import ResNet
from tests.networks import SHORT_OSNET_X0_5, SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium


def repeating_net() -> nn.Module:
    """Channels 4 to 7 repeat 0 to 3, louder."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()
    with torch.no_grad():
        net[0].weight[4:] = 3 * net[0].weight[:4]
    return net


def test_one_of_every_two_copies_stays() -> None:
    net, images = repeating_net(), torch.randn(16, 3, 8, 8)
    scores = reconstruction_scores(net, images, widths={"0": 4}, groups=[])
    kept = scores["0"].topk(4).indices
    assert sorted((kept % 4).tolist()) == [0, 1, 2, 3]
    result = cut(net, {"0": 4}, example=images[:2], check_input=images[:2],
                 criterion="reconstruction", data=ScoringData([images]), groups=[])  # fmt: skip
    with torch.no_grad():
        wanted = net(images)
        reconstruct(result.model, net, result.kept, images, ridge=1e-6)
        assert (result.model(images) - wanted).norm() < 1e-3 * wanted.norm()


def test_what_nothing_reads_goes() -> None:
    net, images = repeating_net(), torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        net[2].weight[:, [1, 2, 5, 6]] = 0
    scores = reconstruction_scores(net, images, widths={"0": 4}, groups=[])
    assert sorted((scores["0"].topk(2).indices % 4).tolist()) == [0, 3]


def test_outputs_that_nothing_reads_are_scored_by_themselves() -> None:
    net, images = repeating_net(), torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        net[2].weight[3] = net[2].weight[0]
    scores = reconstruction_scores(net, images, widths={"2": 3}, groups=[])
    assert scores["2"].argmin() in (0, 3)
    assert "0" not in scores


class Skip(nn.Module):
    """A stem that is read by itself, and beside what a transposed convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1, bias=False)
        self.alone = nn.Conv2d(16, 8, 1)
        self.up = nn.ConvTranspose2d(8, 4, 1)
        self.joined = nn.Conv2d(20, 8, 1)
        with torch.no_grad():
            self.alone.weight[:, :8] *= 0.01
            self.joined.weight[:, 8:16] = 0

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        return self.joined(torch.cat([stem, self.up(self.alone(stem))], 1))


def test_what_is_read_beside_channels_of_no_layer_counts() -> None:
    torch.manual_seed(0)
    net, images = Skip().eval(), torch.randn(16, 3, 8, 8)
    (scores,) = reconstruction_scores(net, images, widths={"stem": 8}, groups=[]).values()
    # Both readers lose by their own half, so channels of both stay.
    assert 2 <= int((scores.topk(8).indices < 8).sum()) <= 6


class Sliced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.stem(x)[:, :4])


def test_readers_of_an_unknown_place_are_no_silent_guess() -> None:
    net, images = Sliced().eval(), torch.randn(4, 3, 8, 8)
    with pytest.raises(PruneError, match=r"'part' reads the channels of 'stem' .* untouched"):
        reconstruction_scores(net, images, widths={"stem": 4}, groups=[])
    assert reconstruction_scores(net, images, widths={"part": 4}, groups=[]).keys() == {"part"}
    errors = reconstruction_errors(net, images, groups=[])
    assert errors.keys() == {"part"}
    unit = Unit(("stem",), 8)
    free = WidthOptions((unit,), layer_widths(net), CostModel(net, images[:1]))
    with pytest.raises(PruneError, match="is lost without channels of 'stem'"):
        by_loss(free, errors, 1.0, lambda cost: cost.macs)


class JoinedInFront(nn.Module):
    """A depthwise convolution behind a concatenation: its channels are those of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.left, self.right = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 8, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        return self.head(self.depthwise(torch.cat([self.left(stem), self.right(stem)], 1)))


def test_layers_that_share_a_part_of_their_channels_are_left_out_or_refused() -> None:
    torch.manual_seed(0)
    net, images = JoinedInFront().eval(), torch.randn(4, 3, 8, 8)
    groups = find_groups(net, images[:2])
    assert groups == [("depthwise", "left", "right")]
    assert reconstruction_errors(net, images, groups=groups).keys() == {"stem", "head"}
    scores = reconstruction_scores(net, images, widths={"stem": 4}, groups=groups)
    assert scores.keys() == {"stem"}
    with pytest.raises(PruneError, match="'depthwise' and 'left' share a part of their channels"):
        reconstruction_scores(net, images, widths={"left": 2}, groups=groups)


def test_what_is_far_from_zero_is_scored_by_how_it_varies() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)).eval()
    images = 0.1 * torch.randn(16, 3, 8, 8)
    scores = []
    for mean in (0.0, 300.0):
        with torch.no_grad():
            net[0].bias.fill_(mean)
        scores.append(reconstruction_scores(net, images, widths={"0": 3}, groups=[])["0"])
    assert torch.equal(scores[0], scores[1])


def test_members_of_a_group_share_their_scores_and_the_model_stays(small_net: nn.Module) -> None:
    images = torch.randn(8, 3, 8, 8)
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    groups = find_groups(small_net, images[:2])
    widths = dict.fromkeys(groups[0], 5)
    scores = reconstruction_scores(small_net.train(), images, widths=widths, groups=groups)
    assert scores.keys() == set(groups[0])
    assert all(torch.equal(scores["stem"], score) for score in scores.values())
    assert sorted(scores["stem"].tolist()) == list(range(1, 9))
    assert small_net.training
    assert all(torch.equal(before[name], value) for name, value in small_net.state_dict().items())


def refit_error(model: nn.Module, images: Tensor, readers: list[Reader], kept: Tensor) -> float:
    """Return what the readers of a group lose in all, with ``lstsq`` on all they see."""
    total = 0.0
    for reader in readers:
        layer = model.get_submodule(reader.name)
        seen: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        model(images)
        handle.remove()
        maps = torch.cat([value.reshape(*value.shape[:2], -1) for value in seen]).double()
        inputs = maps.transpose(1, 2).flatten(0, 1)
        inputs = inputs - inputs.mean(0)
        wanted = inputs @ layer.weight.flatten(2).squeeze(2).T.double()
        fit = torch.linalg.lstsq(inputs[:, kept], wanted).solution
        total += float((inputs[:, kept] @ fit - wanted).pow(2).sum() / wanted.pow(2).sum())
    return total


@torch.no_grad()
def test_readers_lose_less_than_by_norms() -> None:
    torch.manual_seed(0)
    model = build_model(SHORT_OSNET_X0_5, embedding_dim=64)
    widths = layer_widths(build_model(SHORT_OSNET_X0_25, embedding_dim=64))
    images = nn.functional.interpolate(torch.randn(16, 3, 32, 16), scale_factor=2)
    model.train()(images)
    model.eval()
    groups = find_groups(model, images[:2])
    scores = reconstruction_scores(model, images, widths=widths, groups=groups)
    ours = norms = 0.0
    for members, readers in find_readers(model, groups).items():
        name = members[0]
        if name not in scores or not name.startswith("conv3"):
            continue
        strongest = torch.stack(
            [model.get_submodule(member).weight.flatten(1).norm(dim=1) for member in members]
        )
        by_norm = (strongest / strongest.mean(1, keepdim=True)).mean(0)
        kept = scores[name].topk(widths[name]).indices
        ours += refit_error(model, images, readers, kept)
        norms += refit_error(model, images, readers, by_norm.topk(widths[name]).indices)
    assert 0 < ours < 0.8 * norms


@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_other_models_land_at_their_widths(name: str) -> None:
    torch.manual_seed(0)
    if name == "mobilenet":
        model: nn.Module = mobilenet_v2(
            num_classes=10,
            inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]],
        ).eval()
        widths = {
            layer: width if layer == "classifier.1" else width // 2
            for layer, width in layer_widths(model).items()
        }
    else:
        model, narrow = (
            ResNet(18, embedding_dim=64, bnneck=True, width=width).eval() for width in (0.5, 0.25)
        )
        widths = layer_widths(narrow)
    images = torch.randn(4, 3, 32, 32)
    groups = find_groups(model, images[:2])
    scores = reconstruction_scores(model, images, widths=widths, groups=groups)
    result = cut(model, widths, example=images[:2], check_input=images[:2], groups=groups,
                 criterion="reconstruction", data=ScoringData([images]))  # fmt: skip
    assert layer_widths(result.model) == widths
    for layer, score in scores.items():
        assert torch.equal(result.kept[layer], score.topk(widths[layer]).indices.sort().values)
