"""What reads a group's channels is found through sums, gates, concatenations and flattening."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from prune.nni_backend import find_groups
from prune.readers import Reader, find_readers
from reid_edge.models import build_model

pytestmark = pytest.mark.medium


class Branching(nn.Module):
    """Two branches that are concatenated, a one-channel mask, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 6, 3, padding=1)
        self.mask = nn.Conv2d(10, 1, 1)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.mix = nn.Conv2d(10, 5, 1)
        self.head = nn.Linear(5 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        masked = torch.sigmoid(self.mask(both)) * both
        mixed = self.mix(torch.relu(masked))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(mixed, 2), 1))


def test_concatenation_mask_and_flattening() -> None:
    found = find_readers(Branching(), [])
    assert found["left",] == [Reader("mask", 10, 0), Reader("mix", 10, 0)]
    assert found["right",] == [Reader("mask", 10, 4), Reader("mix", 10, 4)]
    assert found["mix",] == [Reader("head", 5, 0)]
    assert found["mask",] == found["head",] == []


def test_a_gate_that_is_called_twice_and_a_depthwise_pair(small_net: nn.Module) -> None:
    groups = find_groups(small_net, torch.randn(2, 3, 8, 8))
    found = find_readers(small_net, groups)
    (members,) = groups
    assert members == ("depthwise", "gate", "pointwise", "stem")
    names = [reader.name for reader in found[members]]
    assert names == ["pointwise", "gate", "head"]


def test_an_osnet_block() -> None:
    model = build_model("osnet_x0_25", num_classes=3)
    found = find_readers(model, find_groups(model, torch.zeros(2, 3, 64, 32)))
    names = {members[0]: [reader.name for reader in readers] for members, readers in found.items()}
    block = "conv2.0"
    assert names[f"{block}.conv1.conv"] == [
        f"{block}.{stream}.conv1" for stream in ("conv2a", "conv2b.0", "conv2c.0", "conv2d.0")
    ]
    assert names[f"{block}.conv2a.conv1"] == [f"{block}.gate.fc1", f"{block}.conv3.conv"]
    assert names[f"{block}.gate.fc1"] == [f"{block}.gate.fc2"]
    assert names[f"{block}.conv2b.0.conv1"] == [f"{block}.conv2b.1.conv1"]
    assert names[f"{block}.conv3.conv"] == [
        "conv2.1.conv1.conv", "conv2.2.0.conv",
    ]  # fmt: skip
    assert names["fc.0"] == []


def test_every_layer_of_a_mobilenet_but_the_last_is_read() -> None:
    model = mobilenet_v2(weights=None, num_classes=10).eval()
    found = find_readers(model, find_groups(model, torch.zeros(2, 3, 64, 32)))
    assert [members for members, readers in found.items() if not readers] == [("classifier.1",)]


class BesideOthers(nn.Module):
    """A stem that is read beside channels that no layer of a plan owns."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 1)
        self.behind_up = nn.Conv2d(12, 5, 1)
        self.behind_image = nn.Conv2d(11, 5, 1)
        self.twice = nn.Conv2d(16, 5, 1)
        self.part = nn.Conv2d(4, 5, 1)
        self.head = nn.Linear(5 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        total = self.behind_up(torch.cat([self.up(stem), stem], 1))
        total = total + self.behind_image(torch.cat((x, stem), dim=1))
        total = total + self.twice(torch.cat(tensors=[stem, stem], dim=1))
        total = total + self.part(stem[:, :4])
        return self.head(nn.functional.adaptive_avg_pool2d(total, 2).view(stem.size(0), -1))


def test_every_place_counts_also_behind_channels_of_no_layer() -> None:
    found = find_readers(BesideOthers(), [])
    assert found["stem",] == [
        Reader("behind_up", 12, 4),
        Reader("behind_image", 11, 3),
        Reader("twice", 16, 0),
        Reader("twice", 16, 8),
        Reader("part", 4, None),
    ]
    assert found["behind_up",] == [Reader("head", 5, 0)]


class Joined(nn.Module):
    """Two maps that are concatenated in one of the ways there are, and read."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
        self.mix = nn.Conv2d(10, 5, 1)
        self._way = way

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.left(x), self.right(x)]
        if self._way == "axis":
            return self.mix(torch.concatenate(parts, axis=1))
        return self.mix(torch.hstack(parts) if self._way == "hstack" else torch.column_stack(parts))


@pytest.mark.parametrize("way", ["axis", "hstack", "column_stack"])
def test_every_way_to_concatenate_is_known(way: str) -> None:
    found = find_readers(Joined(way), [])
    assert found["left",] == [Reader("mix", 10, 0)]
    assert found["right",] == [Reader("mix", 10, 4)]


class Flattened(nn.Module):
    """A linear layer behind one or several flattened maps."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1)
        inputs = {"pyramid": 4 * (1 + 4 + 16), "transposed": 4 * 16, "together": 12 * 16}[way]
        self.head = nn.Linear(inputs, 2)
        self._way = way

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        if self._way == "together":
            return self.head(torch.cat([stem, self.side(x)], 1).flatten(1))
        if self._way == "transposed":
            return self.head(stem.permute(0, 2, 3, 1).flatten(1))
        pooled = [nn.functional.adaptive_avg_pool2d(stem, size) for size in (1, 2, 4)]
        return self.head(torch.cat([torch.flatten(part, 1) for part in pooled], 1))


def test_flattened_maps_are_read_where_their_places_lie_in_one_order_only() -> None:
    together = find_readers(Flattened("together"), [])
    assert together["stem",] == [Reader("head", 12, 0)]
    assert together["side",] == [Reader("head", 12, 4)]
    assert find_readers(Flattened("transposed"), [])["stem",] == [Reader("head", 64, None)]
    # Of the maps of a pyramid one channel has 1, another one 16 places.
    assert find_readers(Flattened("pyramid"), [])["stem",] == [Reader("head", 84, None)]


class OnTokens(nn.Module):
    """A linear layer on the places of a map as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.stem(x).flatten(2).transpose(1, 2))


def test_channels_of_tokens_are_read_one_by_one() -> None:
    assert find_readers(OnTokens(), [])["stem",] == [Reader("mix", 4, 0)]
