"""Networks of few layers, for tests of what is the same for every network."""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from torch import Tensor, nn

from reid_edge.core.registry import installed_points
from reid_edge.models.architecture import Architecture
from reid_edge.models.osnet import CHANNELS_X0_5, CHANNELS_X0_25, OSNet
from reid_edge.models.osnet_ain import OSNetAIN
from reid_edge.models.registry import ARCHITECTURES, build_model
from reid_edge.models.resnet import ResNet

ROOT = Path(__file__).resolve().parents[1]


class SmallNet(nn.Module):
    """Four convolutions, two of them in a residual block, an embedding layer and a classifier.

    Args:
        width: of the convolutions, as a share of 32 channels.
        num_classes: size of the classifier.
        embedding_dim: D, size of the embedding.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 1, embedding_dim: int = 32) -> None:
        super().__init__()
        channels = int(32 * width)
        self.embedding_dim = embedding_dim
        self.conv1 = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv4 = nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.embedding = nn.Sequential(nn.Linear(channels, embedding_dim))
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) to embeddings, in training to (logits, embeddings)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(x + self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x))))))
        x = self.relu(self.bn4(self.conv4(x)))
        embedding: Tensor = self.embedding(self.pool(x).flatten(1))
        return (self.classifier(embedding), embedding) if self.training else embedding


def short_osnet_ain(channels: Sequence[int], embedding_dim: int | None = None) -> OSNetAIN:
    """Build OSNet-AIN with one block a stage."""
    model = OSNetAIN(channels, embedding_dim=embedding_dim)
    for stage in (model.conv2, model.conv3, model.conv4):
        del stage[1:]
    return model


_small = partial(Architecture, family="small_net", description="Four convolutions")
_short = partial(Architecture, family="osnet", description="OSNet with one block a stage")
_narrow = partial(Architecture, family="resnet", description="ResNet-18 of few channels")

SMALL_NET = _small(name="small_net", build=SmallNet, embedding_dim=32)
SMALL_NET_X0_5 = _small(name="small_net_x0_5", build=partial(SmallNet, 0.5), embedding_dim=32)
SHORT_OSNET_X0_5 = _short(
    name="short_osnet_x0_5", build=partial(OSNet, CHANNELS_X0_5, blocks=(1, 1, 1))
)
SHORT_OSNET_X0_25 = _short(
    name="short_osnet_x0_25", build=partial(OSNet, CHANNELS_X0_25, blocks=(1, 1, 1))
)
SHORT_OSNET_IBN_X0_5 = _short(
    name="short_osnet_ibn_x0_5",
    build=partial(OSNet, CHANNELS_X0_5, blocks=(1, 1, 1), instance_norm=True),
)
SHORT_OSNET_IBN_X0_25 = _short(
    name="short_osnet_ibn_x0_25",
    build=partial(OSNet, CHANNELS_X0_25, blocks=(1, 1, 1), instance_norm=True),
)
# Least squares take a time that grows with the third power of the channels.
NARROW_RESNET18 = _narrow(name="narrow_resnet18", build=partial(ResNet, 18, width=0.25))
NARROW_RESNET18_X0_5 = _narrow(name="narrow_resnet18_x0_5", build=partial(ResNet, 18, width=0.125))
NETWORKS = (
    SMALL_NET, SMALL_NET_X0_5, SHORT_OSNET_X0_5, SHORT_OSNET_X0_25,
    SHORT_OSNET_IBN_X0_5, SHORT_OSNET_IBN_X0_25, NARROW_RESNET18, NARROW_RESNET18_X0_5,
)  # fmt: skip


@cache
def _built(architecture: str, num_classes: int, embedding_dim: int | None) -> nn.Module:
    return build_model(architecture, num_classes=num_classes, embedding_dim=embedding_dim)


def built(
    architecture: str, *, num_classes: int = 1, embedding_dim: int | None = None
) -> nn.Module:
    """Return a copy of a model that is built once, for tests to which its weights are all one.

    Drawing the weights of a ResNet-50 takes half a second, copying them a tenth of that.
    """
    return copy.deepcopy(_built(architecture, num_classes, embedding_dim))


@contextmanager
def small_networks() -> Iterator[None]:
    """Let settings and checkpoints name these networks in this context, as an installed package's.

    Processes that are started in it find them, too.
    """
    import pytest  # takes a while, and those processes import this module, too

    # No TemporaryDirectory: processes that are forked in this context would remove it.
    folder = tempfile.mkdtemp(prefix="small-networks-")
    with pytest.MonkeyPatch.context() as patch:
        package = Path(folder) / "small_networks-0.dist-info"
        package.mkdir()
        (package / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: small-networks\nVersion: 0\n"
        )
        points = (f"{network.name} = tests.networks:{network.name.upper()}" for network in NETWORKS)
        (package / "entry_points.txt").write_text(
            "\n".join((f"[{ARCHITECTURES.group}]", *points)) + "\n"
        )
        # Spawned processes take over this process's path, others the variable.
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join((folder, str(ROOT))))
        installed_points.cache_clear()
        try:
            yield
        finally:
            installed_points.cache_clear()
            shutil.rmtree(folder)
