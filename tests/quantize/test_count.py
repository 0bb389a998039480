import json
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.calibrate import Scheme
from quantize.count import FloatLayer, quantization_report
from quantize.static import quantize_static
from reid_edge.models import build_model
from tests.networks import SHORT_OSNET_IBN_X0_5

pytestmark = pytest.mark.medium

POOLING = "int8 would keep the range of the map, too wide for its means"


def test_all_of_osnet_is_int8(osnet: nn.Module, int8_osnet: fx.GraphModule) -> None:
    report = quantization_report(osnet, int8_osnet)
    assert (report.int8_convolutions, report.convolutions) == (79, 79)
    assert (report.int8_call_sites, report.call_sites) == (97, 97)
    assert (report.int8_linear_layers, report.linear_layers) == (1, 1)
    # Once more around the pooling that the embedding layer reads.
    assert (report.quantize_nodes, report.dequantize_nodes) == (2, 2)
    (pooling,) = report.left_in_float
    assert (pooling.name, pooling.reason) == ("global_avgpool", POOLING)


def test_the_instance_norm_variant_is_int8_too(images: Tensor) -> None:
    model = build_model(SHORT_OSNET_IBN_X0_5)
    int8 = quantize_static(model, [images[:2]], Scheme(observer="minmax"), bias_correction=False)
    report = quantization_report(model, int8)
    assert (report.int8_convolutions, report.convolutions) == (79, 79)
    assert [layer.name for layer in report.left_in_float] == ["global_avgpool"]


def test_layers_left_in_float_are_named(osnet: nn.Module, images: Tensor) -> None:
    layers = ["conv2.0.gate", "fc.0"]
    scheme = Scheme(observer="minmax", float_layers=tuple(layers))
    int8 = quantize_static(osnet, [images[:2]], scheme)
    report = quantization_report(osnet, int8, float_layers=layers)
    assert (report.int8_convolutions, report.convolutions) == (77, 79)
    assert (report.int8_call_sites, report.call_sites) == (89, 97)
    assert (report.int8_linear_layers, report.linear_layers) == (0, 1)
    assert FloatLayer("conv2.0.gate.fc1", "Conv2d", "asked for") in report.left_in_float
    assert len([layer for layer in report.left_in_float if layer.reason == "asked for"]) == 5
    assert "int8 convolutions     77 of 79" in str(report)
    assert "  fc.0 (Linear): asked for" in str(report)
    assert json.loads(json.dumps(asdict(report)))["left_in_float"][-1]["name"] == "fc.0"


class Shared(nn.Module):
    """One convolution called twice, and a norm without an int8 form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.group = nn.GroupNorm(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.conv(self.group(self.conv(x))), 1)


def test_what_fx_cannot_do_is_reported() -> None:
    model = Shared()
    report = quantization_report(model, quantize_static(model, [torch.randn(2, 3, 4, 4)]))
    assert (report.int8_convolutions, report.convolutions) == (1, 1)
    assert (report.int8_call_sites, report.call_sites) == (2, 2)
    assert report.left_in_float == (
        FloatLayer("group", "GroupNorm", "FX has no int8 form of it here"),
    )
    assert (report.quantize_nodes, report.dequantize_nodes) == (2, 2)
