"""Every architecture goes to half its width and is mended, not OSNet alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from prune.equivalence import TOLERANCE
from prune.hints import hint_channels
from prune.layer_widths import layer_widths
from prune.plans import linear_plan
from prune.reconstruct import reconstruct
from prune.surgery import compose_kept, cut
from reid_edge.models import build_model
from reid_edge.models.architecture import Architecture
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.models.resnet import ResNet

pytestmark = pytest.mark.medium

Randomise = Callable[[nn.Module], None]
SIZE = (64, 32)
RESNET50_X0_25 = Architecture(
    name="resnet50_x0_25",
    family="resnet",
    description="ResNet-50 at a quarter of its width",
    build=partial(ResNet, 50, width=0.25),
    embedding_dim=2048,
)


def cut_twice(full: nn.Module, target: dict[str, int]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Cut in two iterations, checking each; return the compact model and what it kept."""
    model, groups = full, None  # the groups of the full model are given to the second cut
    kept = {name: torch.arange(width) for name, width in layer_widths(full).items()}
    for widths in linear_plan(layer_widths(full), target, 2):
        example, check_input = torch.randn(2, 3, *SIZE), torch.randn(4, 3, *SIZE)
        result = cut(model, widths, example=example, check_input=check_input, groups=groups)
        assert result.difference <= TOLERANCE
        assert layer_widths(result.model) == widths
        model, groups = result.model, result.groups
        kept = compose_kept(kept, result.kept)
    return model, kept


def check_reconstruction(compact: nn.Module, full: nn.Module, kept: dict[str, Tensor]) -> None:
    """Check that least squares helps on images that it sees, and harms no layer."""
    images = torch.randn(8, 3, *SIZE)
    with torch.no_grad():
        wanted = full(images)
        before = (compact(images) - wanted).norm()
        fits = reconstruct(compact, full, kept, images)
        after = (compact(images) - wanted).norm()
    assert all(fit.after <= fit.before for fit in fits.values())
    assert after < 0.1 * before


@pytest.mark.parametrize(
    ("source", "target", "embedding_dim", "stages"),
    [
        (
            "resnet18_bnneck", "resnet18_bnneck_x0_5", 64,
            {"conv1": 32, "layer1": 32, "layer2": 64, "layer3": 128, "layer4": 256},
        ),
        (
            "resnet50_x0_5", RESNET50_X0_25, None,
            {"conv1": 16, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 2048},
        ),
        (
            "osnet_ain_x0_5", "osnet_ain_x0_25", None,
            {
                "conv1": 16, "conv2": 64, "pool2": 64, "conv3": 96, "pool3": 96,
                "conv4": 128, "conv5": 128,
            },
        ),
    ],
)  # fmt: skip
def test_half_width_is_the_stock_architecture(
    source: str,
    target: str | Architecture,
    embedding_dim: int | None,
    stages: dict[str, int],
    randomise_normalisation: Randomise,
) -> None:
    torch.manual_seed(0)
    full, stock = (
        build_model(name, num_classes=7, embedding_dim=embedding_dim).eval()
        for name in (source, target)
    )
    randomise_normalisation(full)
    compact, kept = cut_twice(full, layer_widths(stock))
    stock.load_state_dict(compact.state_dict(), strict=True)
    images = torch.randn(3, 3, *SIZE)
    assert torch.equal(stock(images), compact(images))
    found = hint_channels(compact, images, kept)
    assert {stage: len(channels) for stage, channels in found.items()} == stages
    check_reconstruction(compact, full, kept)


def test_a_first_pooling_without_padding_stays(
    tmp_path: Path, randomise_normalisation: Randomise
) -> None:
    torch.manual_seed(0)
    name = "resnet18_fastreid"
    full = build_model(name, embedding_dim=64).eval()
    randomise_normalisation(full)
    target = layer_widths(build_model("resnet18_bnneck_x0_5", embedding_dim=64))
    images = torch.randn(4, 3, *SIZE)
    compact = cut(full, target, example=images[:2], check_input=images).model
    save_checkpoint(tmp_path / "m.pt", compact, describe(compact, name, input_size=SIZE))
    loaded, info = load_checkpoint(tmp_path / "m.pt")
    assert info.widths["conv1"] == [3, 32]
    assert loaded.get_submodule("maxpool").ceil_mode
    with torch.no_grad():
        assert torch.equal(loaded(images), compact(images))


def test_half_of_a_mobilenet(randomise_normalisation: Randomise) -> None:
    torch.manual_seed(0)
    full = mobilenet_v2(weights=None, num_classes=10, width_mult=0.5).eval()
    randomise_normalisation(full)
    target = {
        name: width if name == "classifier.1" else width // 2
        for name, width in layer_widths(full).items()
    }
    compact, kept = cut_twice(full, target)
    found = hint_channels(compact, torch.randn(2, 3, *SIZE), kept)
    assert {stage: len(channels) for stage, channels in found.items()} == {"features": 640}
    check_reconstruction(compact, full, kept)
