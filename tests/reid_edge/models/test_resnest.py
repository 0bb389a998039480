"""ResNeSt-50 is FastReID's: names and shapes, and what it computes, written down a second time."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model

pytestmark = pytest.mark.medium

# SHA-256 of the names and shapes of FastReID's own backbone: lines of "name (shape)".
LAYOUT = "be673d720faf4e5a"
HEAD = ("global_avgpool.", "bottleneck.", "classifier.")


class Naive:
    """FastReID's forward pass, from a state dictionary."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **options)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (
            self.state[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, weight, bias)

    def split_attention(self, name: str, x: Tensor, dilation: int) -> Tensor:
        x = self.conv(f"{name}.conv", x, padding=dilation, dilation=dilation, groups=2)
        x = self.norm(f"{name}.bn0", x).relu()
        parts = x.split(x.shape[1] // 2, dim=1)
        mean = (parts[0] + parts[1]).mean((2, 3), keepdim=True)
        hidden = self.norm(f"{name}.bn1", self.conv(f"{name}.fc1", mean)).relu()
        weights = (
            self.conv(f"{name}.fc2", hidden).reshape(len(x), 2, -1).softmax(1)[..., None, None]
        )
        return weights[:, 0] * parts[0] + weights[:, 1] * parts[1]

    def block(self, stage: int, number: int, x: Tensor) -> Tensor:
        name, first = f"layer{stage}.{number}", number == 0
        stride = 2 if first and stage in (2, 3) else 1
        out = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).relu()
        out = self.split_attention(f"{name}.conv2", out, 2 if stage == 4 and not first else 1)
        if first and stage > 1:
            out = F.avg_pool2d(out, 3, stride, padding=1)
        out = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", out))
        if first:
            x = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
            x = self.norm(f"{name}.downsample.2", self.conv(f"{name}.downsample.1", x))
        return (out + x).relu()

    def embed(self, x: Tensor) -> Tensor:
        x = self.norm("conv1.1", self.conv("conv1.0", x, stride=2, padding=1)).relu()
        x = self.norm("conv1.4", self.conv("conv1.3", x, padding=1)).relu()
        x = self.norm("bn1", self.conv("conv1.6", x, padding=1)).relu()
        x = F.max_pool2d(x, 3, 2, padding=1)
        for stage, blocks in enumerate((3, 4, 6, 3), 1):
            for number in range(blocks):
                x = self.block(stage, number, x)
        exponent = self.state["global_avgpool.p"]
        pooled = x.clamp(min=1e-6).pow(exponent).mean((2, 3)).pow(1 / exponent)
        return self.norm("bottleneck", pooled)


def test_names_and_shapes_in_their_order() -> None:
    state = build_model("resnest50_fastreid").state_dict()
    lines = [
        f"{key} {tuple(value.shape)}" for key, value in state.items() if not key.startswith(HEAD)
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == LAYOUT


@torch.inference_mode()
def test_a_file_of_a_tracker(
    tmp_path: Path, randomise_normalisation: Callable[[nn.Module], None]
) -> None:
    torch.manual_seed(0)
    model = build_model("resnest50_fastreid_sbs", num_classes=3)
    randomise_normalisation(model)
    model.get_parameter("global_avgpool.p").fill_(2.7)
    state = dict(model.state_dict())
    theirs = {
        {"global_avgpool.p": "heads.pool_layer.p", "classifier.weight": "heads.weight"}.get(
            name, name.replace("bottleneck.", "heads.bottleneck.0.")
            if name.startswith("bottleneck.") else f"backbone.{name}",
        ): value
        for name, value in state.items()
    }  # fmt: skip
    torch.save({"model": theirs}, tmp_path / "mot17_sbs_S50.pth")
    embedder = load_embedder(tmp_path / "mot17_sbs_S50.pth")
    assert embedder.space.architecture == "resnest50_fastreid_sbs"
    images = torch.randn(2, 3, 70, 35)
    expected = Naive(state).embed(images)
    found = torch.from_numpy(embedder.embed(images.numpy()))
    assert expected.isfinite().all()
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    del theirs["heads.pool_layer.p"]
    torch.save({"model": theirs}, tmp_path / "bot_S50.pth")
    assert load_embedder(tmp_path / "bot_S50.pth").space.architecture == "resnest50_fastreid"
