"""Whole networks through the C engine, against their int8 ONNX file, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from quantize.c_engine.lowering import lower
from quantize.c_engine.qdq_reader import read_network
from quantize.c_engine.toolchain import find_compiler
from quantize.exporters.onnx_float import save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import PixelInput
from reid_edge.models.osnet import LightConv3x3, OSNet
from reid_edge.models.resnet import ResNet
from tests.networks import short_osnet_ain
from tests.quantize.test_c_engine import as_int8, compare_with_onnx

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
]


class MobileNet(nn.Module):
    """MobileNetV2 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2(width_mult=0.25).features

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1)


def uneven_osnet() -> nn.Module:
    """OSNet of a plan with other widths in every layer, none a multiple of 16."""
    model = OSNet((19, 68, 84, 108), embedding_dim=37, blocks=(1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    for chain in list(model.modules()):
        if not isinstance(chain, nn.Sequential) or not isinstance(chain[0], LightConv3x3):
            continue
        # Between the layers of a chain, widths are free; its last one is added to other chains.
        inputs = chain[0].conv1.in_channels
        for place, layer in enumerate(chain):
            outputs = int(torch.randint(5, 15, (), generator=generator))
            outputs = layer.conv1.out_channels if place == len(chain) - 1 else outputs
            chain[place] = LightConv3x3(inputs, outputs)
            inputs = outputs
    return model


@pytest.mark.parametrize(
    ("make", "size", "kinds"),
    [
        pytest.param(
            lambda: short_osnet_ain((16, 64, 64, 96), 32),
            (48, 24),
            {"NORM", "LIGHT"},
            id="osnet_ain",
        ),
        pytest.param(uneven_osnet, (48, 24), {"LIGHT", "GATE"}, id="uneven osnet"),
        pytest.param(
            lambda: ResNet(18, width=0.25),
            (64, 32),
            {"CONVOLUTION"},
            id="resnet18",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: ResNet(50, width=0.125, bnneck=True), (32, 32), {"CONVOLUTION"}, id="resnet50"
        ),
        pytest.param(MobileNet, (32, 32), {"DEPTHWISE"}, id="mobilenet_v2"),
    ],
)
def test_networks(
    make: Callable[[], nn.Module], size: tuple[int, int], kinds: set[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, *size)
    int8_file = as_int8(make(), images, tmp_path)
    assert kinds <= {layer.kind for layer in lower(read_network(int8_file)).layers}
    assert compare_with_onnx(int8_file, images, tmp_path / "c") > 0.99


class Learned(nn.Module):
    """A network as quantization-aware training leaves it: every rounding is in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 20, 3, 2, 1), nn.Conv2d(20, 9, 1)
        for layer in (self.first, self.second):
            layer.register_buffer("scale", layer.weight.detach().abs().amax((1, 2, 3)) / 127)
            layer.register_buffer("zero", torch.zeros(layer.out_channels, dtype=torch.int32))

    def layer(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_channel_affine(
            layer.weight, layer.scale, layer.zero, 0, -128, 127
        )
        return nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 128, 0, 255)
        x = torch.relu(self.layer(self.first, x))
        x = torch.fake_quantize_per_tensor_affine(x, 0.01, 0, 0, 255)
        x = torch.fake_quantize_per_tensor_affine(self.layer(self.second, x), 0.02, 120, 0, 255)
        return x.mean((2, 3))


def test_a_file_of_quantization_aware_training(tmp_path: Path) -> None:
    """Its weights are floats that a QuantizeLinear rounds."""
    torch.manual_seed(0)
    images = torch.randn(6, 3, 24, 16)
    model = Learned().eval()
    path = tmp_path / "qat.onnx"
    torch.onnx.export(
        model, (images[:1],), str(path), dynamo=False, opset_version=13,
        input_names=["input"], output_names=["reid_features"],
        dynamic_axes={"input": {0: "batch"}, "reid_features": {0: "batch"}},
    )  # fmt: skip
    assert compare_with_onnx(path, images, tmp_path / "c") > 0.9999


class Branches(nn.Module):
    """Two convolutions on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.two(x)).mean((2, 3))


class Attention(nn.Module):
    """A product of two tensors with a softmax, as attention has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x) * torch.softmax(self.conv(x), 1)).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branches, "node '/model/one/Conv': images have to go into one convolution and nothing el"),
        (Attention, "node '/model/Softmax': the C engine has no operator Softmax"),
    ],
)
def test_what_is_refused_is_named(model: type[nn.Module], message: str, tmp_path: Path) -> None:
    int8_file = as_int8(model(), torch.randn(2, 3, 16, 16), tmp_path)
    with pytest.raises(QuantizeError) as refused:
        lower(read_network(int8_file))
    assert message in str(refused.value)


def test_a_file_that_takes_pixels_is_refused(tmp_path: Path) -> None:
    pixels = PixelInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), reverse=False)
    model, folder = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        tmp_path,
    )
    save_onnx(model.eval(), torch.zeros(1, 3, 16, 16), folder / "float.onnx", {}, pixels=pixels)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    quantize_onnx(folder / "float.onnx", [images], folder / "int8.onnx", method="minmax")
    with pytest.raises(QuantizeError) as refused:
        read_network(folder / "int8.onnx")
    assert (
        "int8.onnx: its input 'input' is of pixels, and the engine normalises images itself; "
        "export without --input" in str(refused.value)
    )
