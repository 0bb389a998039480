"""An architecture from outside: this file and one line of registration are all it takes."""

import torch
from torch import Tensor, nn

from reid_edge.models import Architecture


class ToyModel(nn.Module):
    def __init__(self, num_classes: int = 1, embedding_dim: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embedding = self.fc(torch.relu(self.bn1(self.conv1(x))).mean((2, 3)))
        return (self.classifier(embedding), embedding) if self.training else embedding


TOY = Architecture(
    name="toy", family="toy", description="One convolution", build=ToyModel, embedding_dim=8
)
