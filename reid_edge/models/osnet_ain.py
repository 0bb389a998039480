"""OSNet-AIN: OSNet with instance normalisation at the places that suit an unseen domain best.

Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
TPAMI 2021. An architecture search found these places.
Module names and tensor shapes are those of torchreid, so that its checkpoints load strictly.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.models.architecture import Architecture
from reid_edge.models.osnet import (
    BOTTLENECK_REDUCTION,
    CHANNELS_X0_5,
    CHANNELS_X0_25,
    CHANNELS_X0_75,
    CHANNELS_X1_0,
    FEATURES,
    ChannelGate,
    Conv1x1,
    Conv1x1Linear,
    ConvLayer,
    LightConv3x3,
    WithHead,
    initialise,
)

STREAMS = 4
# Which blocks have instance normalisation, stage by stage.
INSTANCE_NORM = ((True, True), (False, True), (True, False))


class LightConvStream(nn.Module):
    """A stream of an omni-scale block: ``depth`` light convolutions in a row."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(LightConv3x3(channels, channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return self.layers(x)  # type: ignore[no-any-return]


class OSBlockAIN(nn.Module):
    """Omni-scale block whose residual branch may end in instance normalisation.

    Instance normalisation then replaces BatchNorm, before the residual sum.
    """

    def __init__(self, in_channels: int, out_channels: int, *, instance_norm: bool) -> None:
        super().__init__()
        middle = out_channels // BOTTLENECK_REDUCTION
        self.conv1 = Conv1x1(in_channels, middle)
        self.conv2 = nn.ModuleList(
            LightConvStream(middle, depth) for depth in range(1, STREAMS + 1)
        )
        self.gate = ChannelGate(middle)
        self.conv3 = (
            nn.Sequential(OrderedDict(conv=nn.Conv2d(middle, out_channels, 1, bias=False)))
            if instance_norm
            else Conv1x1Linear(middle, out_channels)
        )
        self.downsample = (
            Conv1x1Linear(in_channels, out_channels) if in_channels != out_channels else None
        )
        self.IN = nn.InstanceNorm2d(out_channels, affine=True) if instance_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        squeezed = self.conv1(x)
        first, *others = self.conv2
        streams = self.gate(first(squeezed))
        for stream in others:
            streams = streams + self.gate(stream(squeezed))
        out = self.conv3(streams)
        if self.IN is not None:
            out = self.IN(out)
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(out + identity)


class OSNetAIN(WithHead):
    """OSNet-AIN for training and inference.

    In training mode it returns (logits (N, num_classes), embeddings (N, D)), in evaluation mode
    the embeddings alone. With a BNNeck the embeddings in training mode are its input, and those in
    evaluation mode its output.

    Args:
        channels: channels of the stem and of the three stages.
        num_classes: size of the classifier.
        embedding_dim: D, size of the embedding; None: 512, or ``features``.
        features: with a BNNeck: size of the pooled features at full width, which are the embedding
            if it is of that size too. None: without a BNNeck.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int = 1,
        embedding_dim: int | None = None,
        features: int | None = None,
    ) -> None:
        super().__init__()
        stem, *stages = channels
        size = embedding_dim or features or FEATURES
        pooled = self.channels_to_pool(stages[2], size, features)
        self.conv1 = ConvLayer(3, stem, 7, stride=2, padding=3, instance_norm=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _make_stage(stem, stages[0], INSTANCE_NORM[0])
        self.pool2 = _make_reduction(stages[0])
        self.conv3 = _make_stage(stages[0], stages[1], INSTANCE_NORM[1])
        self.pool3 = _make_reduction(stages[1])
        self.conv4 = _make_stage(stages[1], stages[2], INSTANCE_NORM[2])
        self.conv5 = Conv1x1(stages[2], pooled)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.add_head(pooled, size, num_classes, features)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), normalised RGB, to embeddings (and logits in training)."""
        x = self.maxpool(self.conv1(x))
        x = self.pool3(self.conv3(self.pool2(self.conv2(x))))
        x = self.conv5(self.conv4(x))
        return self.head(torch.flatten(self.global_avgpool(x), 1))


def _make_stage(
    in_channels: int, out_channels: int, instance_norm: Sequence[bool]
) -> nn.Sequential:
    return nn.Sequential(
        *(
            OSBlockAIN(in_channels if block == 0 else out_channels, out_channels, instance_norm=has)
            for block, has in enumerate(instance_norm)
        )
    )


def _make_reduction(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv1x1(channels, channels), nn.AvgPool2d(2, stride=2))


_declare = partial(Architecture, family="osnet", published_by=("torchreid", "boxmot"))

OSNET_AIN_X1_0 = _declare(
    name="osnet_ain_x1_0",
    description="OSNet-AIN",
    build=partial(OSNetAIN, CHANNELS_X1_0),
    bnneck="osnet_ain_x1_0_bnneck",
)
OSNET_AIN_X0_75 = _declare(
    name="osnet_ain_x0_75",
    description="OSNet-AIN at 0.75 of its width",
    build=partial(OSNetAIN, CHANNELS_X0_75),
)
OSNET_AIN_X0_5 = _declare(
    name="osnet_ain_x0_5",
    description="OSNet-AIN at half of its width",
    build=partial(OSNetAIN, CHANNELS_X0_5),
    bnneck="osnet_ain_x0_5_bnneck",
)
OSNET_AIN_X0_25 = _declare(
    name="osnet_ain_x0_25",
    description="OSNet-AIN at a quarter of its width",
    build=partial(OSNetAIN, CHANNELS_X0_25),
)
OSNET_AIN_X1_0_BNNECK = Architecture(
    name="osnet_ain_x1_0_bnneck",
    family="osnet",
    description="OSNet-AIN with a BNNeck",
    build=partial(OSNetAIN, CHANNELS_X1_0, features=FEATURES),
)
OSNET_AIN_X0_5_BNNECK = Architecture(
    name="osnet_ain_x0_5_bnneck",
    family="osnet",
    description="OSNet-AIN with a BNNeck at half of its width",
    build=partial(OSNetAIN, CHANNELS_X0_5, features=FEATURES),
)
