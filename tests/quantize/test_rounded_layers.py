"""Weights that a format's own quantizer keeps as they are, and better ones than the nearest."""

import copy

import pytest
import torch
from torch import Tensor, nn

from quantize.exporters import rounded_layers
from quantize.exporters.rounded_layers import round_layers
from reid_edge.core.errors import QuantizeError


class Net(nn.Module):
    """Dense and depthwise layers, a gate on two streams, a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.dense = nn.Conv2d(16, 16, 1)
        self.light = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.gate = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 12)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images).relu()
        dense = self.dense(stem).relu()
        light = self.light(dense).relu()
        mixed = light * self.gate(light.mean((2, 3), keepdim=True)).sigmoid()
        mixed = mixed + stem * self.gate(stem.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(mixed.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    # Channels that are alike, as those of natural images are: an error of one can be taken back.
    generator = torch.Generator().manual_seed(1)
    grey = torch.randn(64, 1, 32, 16, generator=generator)
    return grey + 0.2 * torch.randn(64, 3, 32, 16, generator=generator)


def nearest(weights: Tensor) -> Tensor:
    """Round the weights of each output channel to 127 steps on each side, as quantizers do."""
    flat = weights.flatten(1)
    steps = flat.abs().amax(1, keepdim=True) / 127
    return ((flat / steps).round() * steps).reshape(weights.shape)


def test_what_a_quantizer_makes_of_them(network: nn.Module, images: Tensor) -> None:
    rounded = copy.deepcopy(network)
    changed = round_layers(rounded, [images[:32]], "x.tflite")
    assert changed >= 4
    errors = {"nearest": copy.deepcopy(network), "rounded": rounded}
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        before, after = layer.weight, rounded.get_submodule(name).weight
        assert isinstance(after, Tensor)
        # The step of each output channel is that of before, and all weights are on steps.
        assert torch.equal(before.flatten(1).abs().amax(1), after.flatten(1).abs().amax(1))
        if not torch.equal(before, after):
            torch.testing.assert_close(nearest(after), after, rtol=0, atol=1e-6)
        errors["nearest"].get_submodule(name).weight.copy_(nearest(before))  # type: ignore[operator]
    # Both in the steps that the quantizer makes of them, on images that nothing was fitted to.
    expected = network(images[32:])
    found = {
        name: float((one(images[32:]) - expected).square().mean()) for name, one in errors.items()
    }
    assert found["rounded"] < 0.9 * found["nearest"], found
    assert not torch.equal(rounded.dense.weight, nearest(network.dense.weight))  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize("kind", [QuantizeError, RuntimeError])
def test_a_network_that_cannot_be_an_onnx_file_stays_as_it_is(
    network: nn.Module,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise kind("a node that is not known")

    monkeypatch.setattr(rounded_layers, "save_onnx", refuse)
    given = copy.deepcopy(network)
    assert round_layers(given, [images[:32]], "x.tflite") == 0
    assert "x.tflite: weights are rounded to the nearest: " in caplog.text
    assert "a node that is not known" in caplog.text
    # Names that PyTorch writes otherwise are not silently left alone.
    monkeypatch.undo()
    monkeypatch.setattr(rounded_layers, "NETWORK", "net")
    assert round_layers(given, [images[:32]], "x.tflite") == 0
    assert "x.tflite: weights are rounded to the nearest: the int8 ONNX file has no" in caplog.text
    for before, after in zip(network.parameters(), given.parameters(), strict=True):
        assert torch.equal(before, after)
