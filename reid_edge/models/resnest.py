"""ResNeSt-50 as FastReID builds it: a ResNet whose 3 x 3 convolutions are split in two and weighed.

Zhang et al., "ResNeSt: Split-Attention Networks", CVPRW 2022. Trackers such as BoT-SORT use
FastReID's weights of it (SBS S50). Names and shapes are FastReID's, without its ``backbone.``.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.models.architecture import Architecture
from reid_edge.models.osnet import WithHead, initialise
from reid_edge.models.resnet import EXPONENT
from reid_edge.models.resnet_blocks import GeneralizedMeanPooling

BLOCKS = (3, 4, 6, 3)
MIDDLES = (64, 128, 256, 512)
EXPANSION = 4
STEM = 32


class SplitAttention(nn.Module):
    """Two 3 x 3 convolutions of half of the input each, weighed by a function of their mean."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 32)
        self.conv = nn.Conv2d(
            channels, 2 * channels, 3, padding=dilation, dilation=dilation, groups=2, bias=False
        )
        self.bn0 = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        one, other = torch.chunk(self.relu(self.bn0(self.conv(x))), 2, dim=1)
        mean = F.adaptive_avg_pool2d(one + other, 1)
        first, second = torch.chunk(self.fc2(self.relu(self.bn1(self.fc1(mean)))), 2, dim=1)
        # The softmax of two.
        weight = torch.sigmoid(first - second)
        return weight * one + (1 - weight) * other


class Block(nn.Module):
    """A split-attention convolution between two pointwise ones, and a residual sum.

    Args:
        inputs: channels of the input.
        middle: channels between the convolutions.
        stride: of the block, by average pooling.
        dilation: of the 3 x 3 convolution.
        pools: average the split-attention convolution's output over 3 x 3 pixels.
        shortcut: whether a convolution brings the input to the shape of the output.
    """

    def __init__(
        self, inputs: int, middle: int, stride: int, *, dilation: int, pools: bool, shortcut: bool
    ) -> None:
        super().__init__()
        outputs = middle * EXPANSION
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = SplitAttention(middle, dilation)
        self.avd_layer = nn.AvgPool2d(3, stride, padding=1) if pools else None
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if shortcut:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.conv2(self.relu(self.bn1(self.conv1(x))))
        if self.avd_layer is not None:
            out = self.avd_layer(out)
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class ResNeSt(WithHead):
    """ResNeSt-50 with a BNNeck, for training and inference.

    In training mode it returns (logits (N, num_classes), embeddings (N, D)), in evaluation mode
    the embeddings alone; the former are the input of the neck, the latter its output.

    Args:
        num_classes: size of the classifier.
        embedding_dim: D. None or 2048: the pooled features; another size: a linear layer.
        gem: generalized mean pooling, with an exponent that is learned.
    """

    def __init__(
        self, *, num_classes: int = 1, embedding_dim: int | None = None, gem: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(inplace=True),
            nn.Conv2d(STEM, STEM, 3, padding=1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(inplace=True),
            nn.Conv2d(STEM, 2 * STEM, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(2 * STEM)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        features = MIDDLES[-1] * EXPANSION
        self.layer1 = _make_stage(0, 2 * STEM, stride=1)
        self.layer2 = _make_stage(1, MIDDLES[0] * EXPANSION, stride=2)
        self.layer3 = _make_stage(2, MIDDLES[1] * EXPANSION, stride=2)
        self.layer4 = _make_stage(3, MIDDLES[2] * EXPANSION, stride=1)
        self.global_avgpool = GeneralizedMeanPooling(EXPONENT) if gem else nn.AdaptiveAvgPool2d(1)
        self.add_head(features, embedding_dim or features, num_classes, features)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), normalised RGB, to embeddings (and logits in training)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.head(torch.flatten(self.global_avgpool(x), 1))


def _make_stage(stage: int, inputs: int, *, stride: int) -> nn.Sequential:
    """Make a stage; the last keeps its size, and its later blocks are dilated instead."""
    middle = MIDDLES[stage]
    dilation = 2 if stage == len(BLOCKS) - 1 else 1
    first = Block(inputs, middle, stride, dilation=1, pools=stage > 0, shortcut=True)
    later = (
        Block(middle * EXPANSION, middle, 1, dilation=dilation, pools=False, shortcut=False)
        for _ in range(BLOCKS[stage] - 1)
    )
    return nn.Sequential(first, *later)


_declare = partial(Architecture, family="resnest", embedding_dim=MIDDLES[-1] * EXPANSION)
RESNEST50_FASTREID = _declare(
    name="resnest50_fastreid",
    description="ResNeSt-50 as in FastReID (S50)",
    build=ResNeSt,
    fastreid="resnest50_fastreid",
)
RESNEST50_FASTREID_SBS = _declare(
    name="resnest50_fastreid_sbs",
    description="ResNeSt-50 as in FastReID's SBS (S50)",
    build=partial(ResNeSt, gem=True),
    fastreid="resnest50_fastreid_sbs",
)
