"""FastReID's published forms: recognised by their weights, and computed as FastReID does.

The files are made by program, in FastReID's names; what they compute is written down a second time
here, as functions of a state dictionary.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reid_edge.core.errors import CheckpointError
from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.models.pretrained import load_pretrained

pytestmark = pytest.mark.medium

State = dict[str, Tensor]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
NON_LOCAL = {18: (0, 0, 0, 0), 34: (0, 0, 0, 0), 50: (0, 2, 3, 0), 101: (0, 2, 9, 0)}


class Weights:
    """Draws weights by their names."""

    def __init__(self) -> None:
        self.state: State = {}
        self._random = torch.Generator().manual_seed(3)

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)

    def conv(self, name: str, inputs: int, outputs: int, size: int, bias: bool = False) -> None:
        scale = (2 / (inputs * size * size)) ** 0.5
        self.state[f"{name}.weight"] = self._draw(outputs, inputs, size, size) * scale
        if bias:
            self.state[f"{name}.bias"] = self._draw(outputs) * 0.1

    def norm(self, name: str, channels: int, statistics: bool = True) -> None:
        self.state[f"{name}.weight"] = 1 + 0.1 * self._draw(channels)
        self.state[f"{name}.bias"] = 0.1 * self._draw(channels)
        if statistics:
            self.state[f"{name}.running_mean"] = 0.1 * self._draw(channels)
            self.state[f"{name}.running_var"] = 1 + 0.3 * self._draw(channels).abs()
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(9)


def fastreid_resnet(depth: int, *, ibn: bool, stronger: bool, exponent: float | None) -> State:
    weights = Weights()
    weights.conv("backbone.conv1", 3, 64, 7)
    weights.norm("backbone.bn1", 64)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS[depth], 1):
        middle, outputs = 32 * 2**stage, 32 * 2**stage * (4 if depth >= 50 else 1)
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            shapes = (
                [(inputs, middle, 1), (middle, middle, 3), (middle, outputs, 1)] if depth >= 50
                else [(inputs, middle, 3), (middle, outputs, 3)]
            )  # fmt: skip
            for number, (read, written, size) in enumerate(shapes, 1):
                weights.conv(f"{name}.conv{number}", read, written, size)
                if number == 1 and ibn and stage < 4:
                    weights.norm(f"{name}.bn1.IN", written // 2, statistics=False)
                    weights.norm(f"{name}.bn1.BN", written // 2)
                else:
                    weights.norm(f"{name}.bn{number}", written)
            if block == 0 and (stage > 1 or depth >= 50):
                weights.conv(f"{name}.downsample.0", inputs, outputs, 1)
                weights.norm(f"{name}.downsample.1", outputs)
            inputs = outputs
        for number in range(NON_LOCAL[depth][stage - 1] if stronger else 0):
            name = f"backbone.NL_{stage}.{number}"
            for layer in ("g", "theta", "phi"):
                weights.conv(f"{name}.{layer}", outputs, 1, 1, bias=True)
                # The product of three would grow beyond all bounds.
                weights.state[f"{name}.{layer}.weight"] *= 0.1
            weights.conv(f"{name}.W.0", 1, outputs, 1, bias=True)
            weights.norm(f"{name}.W.1", outputs)
    if exponent is not None:
        weights.state["heads.pool_layer.p"] = torch.tensor([exponent])
    weights.norm("heads.bottleneck.0", inputs)
    weights.state["heads.weight"] = torch.ones(5, inputs)
    return weights.state


class Naive:
    """FastReID's forward pass, from its state dictionary."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.IN.weight" in self.state:
            half = x.shape[1] // 2
            first = F.instance_norm(
                x[:, :half], weight=self.state[f"{name}.IN.weight"],
                bias=self.state[f"{name}.IN.bias"],
            )  # fmt: skip
            return torch.cat([first, self.norm(f"{name}.BN", x[:, half:])], 1)
        weight, bias, mean, variance = (
            self.state[f"{name}.{kind}"]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, weight, bias)

    def block(self, name: str, x: Tensor, stride: int) -> Tensor:
        out = x
        deep = f"{name}.conv3.weight" in self.state
        for number in (1, 2, 3) if deep else (1, 2):
            step = stride if number == (2 if deep else 1) else 1
            out = self.norm(f"{name}.bn{number}", self.conv(f"{name}.conv{number}", out, step))
            if number < (3 if deep else 2):
                out = out.relu()
        if f"{name}.downsample.0.weight" in self.state:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        return (out + x).relu()

    def non_local(self, name: str, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        g, theta, phi = (
            self.conv(f"{name}.{k}", x).view(n, -1, h * w) for k in ("g", "theta", "phi")
        )
        similarity = theta.transpose(1, 2) @ phi / (h * w)
        common = (similarity @ g.transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w)
        return self.norm(f"{name}.W.1", self.conv(f"{name}.W.0", common)) + x

    def embed(self, x: Tensor, exponent: float) -> Tensor:
        x = self.norm("backbone.bn1", self.conv("backbone.conv1", x, 2)).relu()
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
        for stage, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
            numbers = sorted({
                int(name.split(".")[2]) for name in self.state if f".layer{stage}." in name
            })  # fmt: skip
            lists = len({name.split(".")[2] for name in self.state if f".NL_{stage}." in name})
            for block in numbers:
                x = self.block(f"backbone.layer{stage}.{block}", x, stride if block == 0 else 1)
                number = block - (len(numbers) - lists)
                if number >= 0:
                    x = self.non_local(f"backbone.NL_{stage}.{number}", x)
        x = x.clamp(min=1e-6).pow(exponent).mean((2, 3)).pow(1 / exponent)
        return self.norm("heads.bottleneck.0", x)


@pytest.mark.parametrize(
    ("depth", "ibn", "stronger", "exponent", "name"),
    [
        (18, False, True, 2.5, "resnet18_fastreid_sbs"),
        (50, False, False, None, "resnet50_fastreid"),
        (50, True, False, None, "resnet50_ibn_fastreid"),
        (50, True, True, 3.4, "resnet50_ibn_fastreid_sbs"),
        (50, False, True, None, "resnet50_fastreid_sbs"),  # AGW: an exponent that is not learned
    ],
)
@torch.inference_mode()
def test_what_fastreid_computes(
    tmp_path: Path, depth: int, ibn: bool, stronger: bool, exponent: float | None, name: str
) -> None:
    state = fastreid_resnet(depth, ibn=ibn, stronger=stronger, exponent=exponent)
    path = tmp_path / "market_sbs.pth"
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, path)
    embedder = load_embedder(path)
    assert embedder.space.architecture == name
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    expected = Naive(state).embed(images, exponent or (3.0 if stronger else 1.0))
    found = torch.from_numpy(embedder.embed(images.numpy()))
    assert expected.isfinite().all()
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert F.cosine_similarity(found, expected).min() > 0.99999


def test_the_others_are_recognised(tmp_path: Path) -> None:
    for depth, name in ((34, "resnet34_fastreid_sbs"), (101, "resnet101_ibn_fastreid_sbs")):
        state = fastreid_resnet(depth, ibn=depth == 101, stronger=True, exponent=3.0)
        torch.save({"model": state}, tmp_path / "w.pth")
        report = load_pretrained(build_model(name), tmp_path / "w.pth")
        assert report.missing == ("classifier.weight",)
        assert report.incompatibilities == ()


def test_what_a_file_does_not_say_is_said(tmp_path: Path) -> None:
    path, model = tmp_path / "w.pth", build_model("resnet18_fastreid_sbs")
    state = fastreid_resnet(18, ibn=False, stronger=True, exponent=2.0)
    torch.save({"model": state}, path)
    said = str(load_pretrained(model, path))
    assert "no mean and std of colours in it, ImageNet's are assumed" in said
    assert "exponent" not in said
    del state["heads.pool_layer.p"]
    halves = {name: torch.full((1, 3, 1, 1), 127.5) for name in ("pixel_mean", "pixel_std")}
    torch.save({"model": state | halves}, path)
    said = str(load_pretrained(model, path))
    assert "its pooling has no exponent in it, FastReID's 3 is assumed" in said
    assert "mean and std" not in said
    assert model.get_parameter("global_avgpool.p").item() == 3


def test_mean_and_std_can_be_set(tmp_path: Path, fastreid_file: Callable[..., Path]) -> None:
    path = fastreid_file(tmp_path / "w.pth")
    embedder = load_embedder(path, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert (embedder.space.mean, embedder.space.std) == ((0.5,) * 3, (0.25,) * 3)
    assert load_embedder(path).space.difference(embedder.space) == (
        "other mean or std of the colours"
    )
    with pytest.raises(CheckpointError, match=r"a std of .*; expected above zero"):
        load_embedder(path, std=(0.0, 1.0, 1.0))


def test_names_of_2020(tmp_path: Path) -> None:
    state = fastreid_resnet(18, ibn=False, stronger=True, exponent=2.0)
    old = {
        name.replace("pool_layer.p", "pool_layer.0.p").replace("bottleneck.0.", "bnneck."): value
        for name, value in state.items()
    }
    images = torch.randn(1, 3, 64, 32).numpy()
    for name, content in (("new", state), ("old", old)):
        torch.save({"model": content}, tmp_path / f"{name}.pth")
    new, older = (load_embedder(tmp_path / f"{name}.pth") for name in ("new", "old"))
    assert np.array_equal(new.embed(images), older.embed(images))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("backbone.layer1.0.se.fc.0.weight", "squeeze and excitation"),
        ("backbone.layer5.0.weight", "a stage more"),
    ],
)
def test_backbones_that_are_not_built(tmp_path: Path, name: str, other: str) -> None:
    state = fastreid_resnet(18, ibn=False, stronger=False, exponent=None)
    torch.save({"model": {**state, name: torch.ones(1)}}, tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match=r"resnet18.pth: .*"):
        load_embedder(tmp_path / "resnet18.pth")
    torch.save({"model": {"backbone.stem.weight": torch.ones(1), "heads.weight": torch.ones(1, 1)}},
               tmp_path / "vit.pth")  # fmt: skip
    with pytest.raises(
        CheckpointError,
        match=r"vit.pth: is of FastReID, with a backbone that is not built here; kn",
    ):
        load_embedder(tmp_path / "vit.pth")


def test_an_own_checkpoint_of_the_form_comes_back(tmp_path: Path) -> None:
    name = "resnet18_fastreid_sbs"
    model = build_model(name, num_classes=3, embedding_dim=16).eval()
    model.get_parameter("global_avgpool.p").data.fill_(2.25)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, name, input_size=(64, 32)))
    loaded, _ = load_checkpoint(tmp_path / "m.pt")
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))
