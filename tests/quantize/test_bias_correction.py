"""Layers are measured by channel, whatever the shape of what they give."""

import pytest
import torch
from torch import Tensor, nn

from quantize.calibrate import Scheme
from quantize.static import quantize_static
from reid_edge.core.int8_engine import quantized_engine, supported_engines

pytestmark = pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK")


class Tokens(nn.Module):
    """A linear layer on maps whose channels come last, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.conv(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


# Six rows, as many as channels: means by row would fit the bias.
@pytest.mark.parametrize("height", [6, 9])
def test_a_linear_layer_on_a_map_is_corrected_by_channel(height: int) -> None:
    torch.manual_seed(0)
    model = Tokens().eval()
    images = torch.randn(8, 3, height, 4)
    images += 3 * torch.arange(float(height)).view(-1, 1)
    scheme, errors = Scheme(observer="minmax", per_channel=False), {}
    for corrected in (True, False):
        int8 = quantize_static(model, [images], scheme, bias_correction=corrected)
        with quantized_engine("qnnpack"), torch.inference_mode():
            errors[corrected] = (int8(images) - model(images)).mean((0, 1, 2)).abs().mean()
    assert errors[True] < 0.5 * errors[False]
