"""Graphs that take pixels: the same embeddings, and as few operators as are exact."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.pixels import TakesPixels
from reid_edge.core.exporter import PixelInput

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIXELS = torch.randint(
    0, 256, (3, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


class Branches(nn.Module):
    """Two convolutions read the images, one of them with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x).mean((2, 3)), self.second(x).mean((2, 3))], 1)


def network(*first: nn.Module) -> nn.Module:
    return nn.Sequential(*first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("model", "operators"),
    [
        (network(nn.Conv2d(3, 8, 3, 2, 1)), ["Cast", "Sub", "Conv"]),
        (network(nn.Conv2d(3, 8, 3, 2, 1, bias=False)), ["Cast", "Sub", "Conv"]),
        (network(nn.Conv2d(3, 8, 3, 2)), ["Cast", "Conv"]),
        (network(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8)), ["Cast", "Conv"]),
        (network(nn.Conv2d(3, 6, 3, 2, groups=3)), ["Cast", "Sub", "Mul"]),
        (network(nn.AvgPool2d(2), nn.Conv2d(3, 8, 3)), ["Cast", "Sub", "Mul"]),
        (Branches(), ["Cast", "Sub", "Conv"]),
    ],
)
def test_normalisation_is_in_the_first_convolution_where_that_is_exact(
    model: nn.Module, operators: list[str], reverse: bool, tmp_path: Path
) -> None:
    model.eval()
    pixels = PixelInput(MEAN, STD, reverse)
    save_onnx(model, torch.zeros(1, 3, 16, 8), tmp_path / "a.onnx", {}, pixels=pixels)
    nodes = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert nodes[: len(operators)] == operators
    assert ("Gather" in nodes) == (reverse and operators[-1] == "Mul")
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    normalised = (PIXELS / 255 - mean) / std
    with torch.inference_mode():
        plain = model(normalised.flip(1) if reverse else normalised)
        wrapped = TakesPixels(model, pixels)(PIXELS)
    expected = nn.functional.normalize(plain).numpy()
    (found,) = onnx_session(tmp_path / "a.onnx").run(None, {"input": PIXELS.numpy()})
    assert np.abs(found - expected).max() < 2e-6
    assert torch.allclose(wrapped, plain, atol=1e-5)
