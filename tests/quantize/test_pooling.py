import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quantize.call_sites import split_call_sites
from quantize.pooling import FloatPooling, keep_pooling_in_float
from quantize.static import quantize_static
from reid_edge.models.registry import build_model


class Peaks(nn.Module):
    """Maps with rare peaks: the means vary a hundred times less than the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.global_avgpool(F.relu(self.conv(images))), 1))


def test_only_the_pooling_that_a_linear_layer_reads_is_wrapped() -> None:
    graph = split_call_sites(build_model("osnet_x0_25").eval())
    keep_pooling_in_float(graph)
    wrapped = [n for n, module in graph.named_modules() if isinstance(module, FloatPooling)]
    assert wrapped == ["global_avgpool"]


def test_wrapping_changes_no_bit() -> None:
    model, images = build_model("osnet_x0_25").eval(), torch.randn(2, 3, 64, 32)
    graph = split_call_sites(model)
    keep_pooling_in_float(graph)
    with torch.inference_mode():
        assert torch.equal(graph(images), model(images))


class PeaksByModules(Peaks):
    """The same, written with modules."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Sequential(nn.Flatten(), nn.Identity(), nn.Dropout(0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.between(self.global_avgpool(F.relu(self.conv(images)))))


@pytest.mark.parametrize("kind", [Peaks, PeaksByModules])
def test_small_means_of_large_maps_keep_their_levels(kind: type[Peaks]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    images = 20 * torch.rand(64, 3, 16, 16) * (torch.rand(64, 3, 16, 16) < 0.05)
    int8 = quantize_static(model, [images], bias_correction=False)
    with torch.inference_mode():
        wanted, found = model(images), int8(images)
    error = found - wanted
    # The maps reach 20, the means 1: the levels of the maps are a sixth of what the means vary by.
    assert (error - error.mean(0)).norm() < 0.1 * (wanted - wanted.mean(0)).norm()
