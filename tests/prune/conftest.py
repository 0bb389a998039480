"""A small residual network of the tests' own."""

import pytest
import torch
from torch import Tensor, nn


class SmallNet(nn.Module):
    """A stem, a depthwise pair, a residual sum, a gate that is called twice, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 8, 1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(8)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem_norm(self.stem(x)))
        branch = torch.relu(self.depthwise_norm(self.depthwise(self.pointwise(stem))))
        gated = stem * torch.sigmoid(self.gate(stem)) + branch * torch.sigmoid(self.gate(branch))
        return self.head(gated.mean((2, 3)))


@pytest.fixture
def small_net() -> nn.Module:
    torch.manual_seed(3)
    return SmallNet().eval()
