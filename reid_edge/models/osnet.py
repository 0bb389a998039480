"""OSNet: omni-scale feature learning for person re-identification.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019.
Module names and tensor shapes are those of torchreid, so that its checkpoints load strictly.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.models.architecture import Architecture

STAGE_BLOCKS = (2, 2, 2)
BOTTLENECK_REDUCTION = 4
GATE_REDUCTION = 16
# Channels of the last stage at full width, and size of the embedding.
FEATURES = 512


class ConvLayer(nn.Module):
    """Convolution, normalisation (instance normalisation if asked for), ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        instance_norm: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        self.bn: nn.Module = (
            nn.InstanceNorm2d(out_channels, affine=True)
            if instance_norm
            else nn.BatchNorm2d(out_channels)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Conv1x1(nn.Module):
    """Pointwise convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Conv1x1Linear(nn.Module):
    """Pointwise convolution and BatchNorm, without a non-linearity."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        return self.bn(self.conv(x))  # type: ignore[no-any-return]


class LightConv3x3(nn.Module):
    """Pointwise, then depthwise 3 x 3 convolution, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, bias=False, groups=out_channels
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        return self.relu(self.bn(self.conv2(self.conv1(x))))  # type: ignore[no-any-return]


class ChannelGate(nn.Module):
    """The aggregation gate: weighs each channel by a function of its spatial mean."""

    def __init__(self, in_channels: int, reduction: int = GATE_REDUCTION) -> None:
        super().__init__()
        hidden = in_channels // reduction
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(in_channels, hidden, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, in_channels, 1)
        self.gate_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        gate = self.gate_activation(self.fc2(self.relu(self.fc1(self.global_avgpool(x)))))
        return x * gate  # type: ignore[no-any-return]


class OSBlock(nn.Module):
    """Omni-scale block: four streams of growing depth, one shared gate, a residual sum."""

    def __init__(self, in_channels: int, out_channels: int, *, instance_norm: bool = False) -> None:
        super().__init__()
        middle = out_channels // BOTTLENECK_REDUCTION
        self.conv1 = Conv1x1(in_channels, middle)
        self.conv2a = LightConv3x3(middle, middle)
        self.conv2b = nn.Sequential(*(LightConv3x3(middle, middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(middle, middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(middle, middle) for _ in range(4)))
        self.gate = ChannelGate(middle)
        self.conv3 = Conv1x1Linear(middle, out_channels)
        self.downsample = (
            Conv1x1Linear(in_channels, out_channels) if in_channels != out_channels else None
        )
        self.IN = nn.InstanceNorm2d(out_channels, affine=True) if instance_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H, W)."""
        identity = x if self.downsample is None else self.downsample(x)
        squeezed = self.conv1(x)
        streams = (
            self.gate(self.conv2a(squeezed))
            + self.gate(self.conv2b(squeezed))
            + self.gate(self.conv2c(squeezed))
            + self.gate(self.conv2d(squeezed))
        )
        out = self.conv3(streams) + identity
        if self.IN is not None:
            out = self.IN(out)
        return F.relu(out)


class WithHead(nn.Module):
    """A model that ends as OSNet does: pooling, embedding layer, classifier; or with a BNNeck.

    A BNNeck is a BatchNorm without shift between embedding and classifier (Luo et al., "Bag of
    Tricks and a Strong Baseline for Deep Person Re-Identification", CVPRW 2019): losses on
    distances see its input, cross entropy its output. The pooled features are the embedding then,
    unless it has another size than they have at full width.
    """

    def channels_to_pool(self, last_stage: int, embedding_dim: int, features: int | None) -> int:
        """Return the channels of the layer in front of the pooling, ``conv5``.

        Args:
            last_stage: channels of the last stage.
            embedding_dim: size of the embedding.
            features: size of the pooled features at full width with a BNNeck; None: without.
        """
        return embedding_dim if embedding_dim == features else last_stage

    def add_head(
        self, pooled: int, embedding_dim: int, num_classes: int, features: int | None
    ) -> None:
        """Add the layers behind the pooling.

        Args:
            pooled: size of the pooled features.
            embedding_dim: size of the embedding.
            num_classes: size of the classifier.
            features: see :meth:`channels_to_pool`.
        """
        self.embedding_dim = embedding_dim
        self.fc = self.embedding = self.bottleneck = None
        if features is None:
            self.fc = nn.Sequential(
                nn.Linear(pooled, embedding_dim), nn.BatchNorm1d(embedding_dim), nn.ReLU()
            )
        elif embedding_dim != features:
            # No bias: the neck would subtract it.
            self.embedding = nn.Sequential(nn.Linear(pooled, embedding_dim, bias=False))
        if features is not None:
            self.bottleneck = nn.BatchNorm1d(embedding_dim)
            # Embeddings stay around the origin, where the classifier's hyperplanes meet.
            self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(embedding_dim, num_classes, bias=features is None)

    def head(self, pooled: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map pooled features (N, C) to embeddings (N, D), in training to (logits, embeddings)."""
        embedding = pooled
        for layer in (self.fc, self.embedding):
            if layer is not None:
                embedding = layer(embedding)
        normalised = embedding if self.bottleneck is None else self.bottleneck(embedding)
        if not self.training:
            return normalised
        return self.classifier(normalised), embedding


class OSNet(WithHead):
    """OSNet for training and inference.

    In training mode it returns (logits (N, num_classes), embeddings (N, D)), in evaluation mode
    the embeddings alone. With a BNNeck the embeddings in training mode are its input, and those in
    evaluation mode its output.

    Args:
        channels: channels of the stem and of the three stages.
        num_classes: size of the classifier.
        embedding_dim: D, size of the embedding; None: 512, or ``features``.
        instance_norm: the IBN variant, with instance normalisation in the stem and first stage.
        features: with a BNNeck: size of the pooled features at full width, which are the embedding
            if it is of that size too. None: without a BNNeck.
        blocks: number of blocks in each of the three stages.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int = 1,
        embedding_dim: int | None = None,
        instance_norm: bool = False,
        features: int | None = None,
        blocks: Sequence[int] = STAGE_BLOCKS,
    ) -> None:
        super().__init__()
        stem, *stages = channels
        size = embedding_dim or features or FEATURES
        pooled = self.channels_to_pool(stages[2], size, features)
        self.conv1 = ConvLayer(3, stem, 7, stride=2, padding=3, instance_norm=instance_norm)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _make_stage(
            stem, stages[0], blocks[0], reduce=True, instance_norm=instance_norm
        )
        self.conv3 = _make_stage(stages[0], stages[1], blocks[1], reduce=True)
        self.conv4 = _make_stage(stages[1], stages[2], blocks[2], reduce=False)
        self.conv5 = Conv1x1(stages[2], pooled)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.add_head(pooled, size, num_classes, features)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), normalised RGB, to embeddings (and logits in training)."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        return self.head(torch.flatten(self.global_avgpool(x), 1))


def _make_stage(
    in_channels: int,
    out_channels: int,
    blocks: int,
    *,
    reduce: bool,
    instance_norm: bool = False,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in range(blocks):
        block_in = in_channels if block == 0 else out_channels
        layers.append(OSBlock(block_in, out_channels, instance_norm=instance_norm))
    if reduce:
        layers.append(nn.Sequential(Conv1x1(out_channels, out_channels), nn.AvgPool2d(2, stride=2)))
    return nn.Sequential(*layers)


def initialise(model: nn.Module) -> None:
    """Draw new weights for all convolutions and linear layers, in place."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# Channels of the stem and of the three stages.
CHANNELS_X1_0 = (64, 256, 384, 512)
CHANNELS_X0_75 = (48, 192, 288, 384)
CHANNELS_X0_5 = (32, 128, 192, 256)
CHANNELS_X0_25 = (16, 64, 96, 128)

_declare = partial(Architecture, family="osnet", published_by=("torchreid", "boxmot"))
_declare_bnneck = partial(Architecture, family="osnet")

OSNET_X1_0 = _declare(
    name="osnet_x1_0",
    description="OSNet",
    build=partial(OSNet, CHANNELS_X1_0),
    bnneck="osnet_x1_0_bnneck",
)
OSNET_X0_75 = _declare(
    name="osnet_x0_75",
    description="OSNet at 0.75 of its width",
    build=partial(OSNet, CHANNELS_X0_75),
    bnneck="osnet_x0_75_bnneck",
)
OSNET_X0_5 = _declare(
    name="osnet_x0_5",
    description="OSNet at half of its width",
    build=partial(OSNet, CHANNELS_X0_5),
    bnneck="osnet_x0_5_bnneck",
)
OSNET_X0_25 = _declare(
    name="osnet_x0_25",
    description="OSNet at a quarter of its width",
    build=partial(OSNet, CHANNELS_X0_25),
    bnneck="osnet_x0_25_bnneck",
)
OSNET_IBN_X1_0 = _declare(
    name="osnet_ibn_x1_0",
    description="OSNet with instance normalisation in the stem and the first stage",
    build=partial(OSNet, CHANNELS_X1_0, instance_norm=True),
    bnneck="osnet_ibn_x1_0_bnneck",
)
OSNET_IBN_X0_5 = _declare(
    name="osnet_ibn_x0_5",
    description="OSNet-IBN at half of its width, the target of pruning it",
    build=partial(OSNet, CHANNELS_X0_5, instance_norm=True),
    published_by=(),
)

# With a BNNeck. At full width these are FastReID's OSNets.
OSNET_X1_0_BNNECK = _declare_bnneck(
    name="osnet_x1_0_bnneck",
    description="OSNet with a BNNeck, as in FastReID",
    build=partial(OSNet, CHANNELS_X1_0, features=FEATURES),
    fastreid="osnet_x1_0_bnneck",
)
OSNET_X0_75_BNNECK = _declare_bnneck(
    name="osnet_x0_75_bnneck",
    description="OSNet with a BNNeck at 0.75 of its width",
    build=partial(OSNet, CHANNELS_X0_75, features=FEATURES),
)
OSNET_X0_5_BNNECK = _declare_bnneck(
    name="osnet_x0_5_bnneck",
    description="OSNet with a BNNeck at half of its width",
    build=partial(OSNet, CHANNELS_X0_5, features=FEATURES),
)
OSNET_X0_25_BNNECK = _declare_bnneck(
    name="osnet_x0_25_bnneck",
    description="OSNet with a BNNeck at a quarter of its width",
    build=partial(OSNet, CHANNELS_X0_25, features=FEATURES),
)
OSNET_IBN_X1_0_BNNECK = _declare_bnneck(
    name="osnet_ibn_x1_0_bnneck",
    description="OSNet-IBN with a BNNeck, as in FastReID",
    build=partial(OSNet, CHANNELS_X1_0, instance_norm=True, features=FEATURES),
    fastreid="osnet_ibn_x1_0_bnneck",
)
OSNET_IBN_X0_5_BNNECK = _declare_bnneck(
    name="osnet_ibn_x0_5_bnneck",
    description="OSNet-IBN with a BNNeck at half of its width, the target of pruning it",
    build=partial(OSNet, CHANNELS_X0_5, instance_norm=True, features=FEATURES),
)

# FastReID's narrow OSNets have narrow embeddings too.
OSNET_X0_75_FASTREID = _declare_bnneck(
    name="osnet_x0_75_fastreid",
    description="OSNet at 0.75 of its width as in FastReID",
    build=partial(OSNet, CHANNELS_X0_75, features=CHANNELS_X0_75[-1]),
    embedding_dim=CHANNELS_X0_75[-1],
    fastreid="osnet_x0_75_fastreid",
)
OSNET_X0_5_FASTREID = _declare_bnneck(
    name="osnet_x0_5_fastreid",
    description="OSNet at half of its width as in FastReID",
    build=partial(OSNet, CHANNELS_X0_5, features=CHANNELS_X0_5[-1]),
    embedding_dim=CHANNELS_X0_5[-1],
    fastreid="osnet_x0_5_fastreid",
)
OSNET_X0_25_FASTREID = _declare_bnneck(
    name="osnet_x0_25_fastreid",
    description="OSNet at a quarter of its width as in FastReID",
    build=partial(OSNet, CHANNELS_X0_25, features=CHANNELS_X0_25[-1]),
    embedding_dim=CHANNELS_X0_25[-1],
    fastreid="osnet_x0_25_fastreid",
)
