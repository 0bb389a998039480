"""An architecture: three convolutions, average pooling, an embedding layer and a classifier."""

import torch
from torch import Tensor, nn

from reid_edge.models import Architecture


class PlainNet(nn.Module):
    """Logits (N, num_classes) and embeddings (N, D) in training mode, embeddings otherwise."""

    def __init__(self, num_classes: int = 1, embedding_dim: int = 64) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, embedding_dim)
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        embedding: Tensor = self.fc(self.pool(x).flatten(1))
        return (self.classifier(embedding), embedding) if self.training else embedding


PLAIN_NET = Architecture(
    name="plain_net",
    family="plain_net",
    description="Three convolutions",
    build=PlainNet,
    embedding_dim=64,
)
