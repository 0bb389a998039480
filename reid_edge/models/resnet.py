"""ResNet-18 and ResNet-50 for re-identification, of torchvision's blocks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; last stride 1 and BNNeck:
Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPRW 2019.
Names and shapes of the backbone are torchvision's, so that its ImageNet weights fit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv3x3

from reid_edge.core.errors import ModelError
from reid_edge.models.osnet import initialise

STEM_CHANNELS = 64
STAGE_CHANNELS = (64, 128, 256, 512)


@dataclass(frozen=True)
class BlockWidths:
    """Channels of a residual block.

    Attributes:
        inputs: that it is given.
        middle: of its inner convolutions.
        outputs: of the residual sum.
    """

    inputs: int
    middle: int
    outputs: int


MakeBlock = Callable[[BlockWidths, int, nn.Module | None], nn.Module]


@dataclass(frozen=True)
class Depth:
    """What tells one ResNet from another.

    Attributes:
        make_block: makes a block of given widths, stride and shortcut.
        expansion: output channels of a block by its middle ones.
        blocks: in each of the four stages.
    """

    make_block: MakeBlock
    expansion: int
    blocks: Sequence[int]


class ResNet(nn.Module):
    """ResNet for training and inference.

    In training mode it returns (logits (N, num_classes), embeddings (N, D)), in evaluation mode
    the embeddings alone. With a BNNeck the embeddings of training are those before its BatchNorm,
    for losses on distances, and those of evaluation are the ones behind it.

    Narrow ones are what pruning ends at. All layers of a residual stage share their output
    channels, so a width holds for the stream as for what is inside the blocks. Without an
    embedding layer the last stream is the embedding, whose size is the same at every width, as
    OSNet's is.

    Args:
        depth: 18 or 50.
        num_classes: size of the classifier.
        embedding_dim: D, size of the embedding; none, or that of the full-width backbone (512 for
            ResNet-18, 2048 for ResNet-50): the pooled features themselves; another: a linear
            embedding layer with BatchNorm.
        width: channels by those of the published architecture.
        last_stride: of the last stage; 1 keeps its feature map at twice the published size. The
            weights of either fit the other, but give other embeddings there.
        bnneck: a BatchNorm without shift between embedding and classifier; behind an embedding
            layer it takes the place of that layer's own.
        padded_stem: the first pooling sees a border around its maps, as torchvision's; without, it
            begins at their corner, as FastReID's. Sizes and weights are the same, embeddings not.

    Raises:
        ModelError: the depth is not known, or a layer is left without a channel.
    """

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int = 1,
        embedding_dim: int | None = None,
        width: float = 1.0,
        last_stride: int = 1,
        bnneck: bool = False,
        padded_stem: bool = True,
    ) -> None:
        super().__init__()
        kind = _depth(depth)
        self.last_stride = last_stride
        self.padded_stem = padded_stem
        features = STAGE_CHANNELS[-1] * kind.expansion
        self.embedding_dim = embedding_dim or features
        has_layer = self.embedding_dim != features
        widths = _stage_widths(kind, width, last_output=None if has_layer else features)
        self.conv1 = nn.Conv2d(3, widths[0].inputs, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0].inputs)
        self.relu = nn.ReLU(inplace=True)
        # Without padding, the last window may reach over the edge, so that no size is lost.
        self.maxpool = nn.MaxPool2d(
            3, stride=2, padding=1 if padded_stem else 0, ceil_mode=not padded_stem
        )
        self.layer1 = _make_stage(kind, 1, widths[0], stride=1)
        self.layer2 = _make_stage(kind, 2, widths[1], stride=2)
        self.layer3 = _make_stage(kind, 3, widths[2], stride=2)
        self.layer4 = _make_stage(kind, 4, widths[3], stride=last_stride)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.embedding = (
            _make_embedding(widths[3].outputs, self.embedding_dim, normalised=not bnneck)
            if has_layer
            else None
        )
        self.bottleneck = nn.BatchNorm1d(self.embedding_dim) if bnneck else None
        self.classifier = nn.Linear(self.embedding_dim, num_classes, bias=not bnneck)
        initialise(self)
        if self.bottleneck is not None:
            # Embeddings stay around the origin, where the classifier's hyperplanes meet.
            self.bottleneck.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W), normalised RGB, to embeddings (and logits in training)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embedding = torch.flatten(self.global_avgpool(x), 1)
        if self.embedding is not None:
            embedding = self.embedding(embedding)
        normalised = embedding if self.bottleneck is None else self.bottleneck(embedding)
        if not self.training:
            return normalised
        return self.classifier(normalised), embedding


def _depth(depth: int) -> Depth:
    if depth == 18:
        return Depth(_basic_block, BasicBlock.expansion, (2, 2, 2, 2))
    if depth == 50:
        return Depth(_bottleneck, Bottleneck.expansion, (3, 4, 6, 3))
    raise ModelError(f"no ResNet of depth {depth}: known are 18 and 50")


def _stage_widths(kind: Depth, width: float, *, last_output: int | None) -> list[BlockWidths]:
    """Return the widths of the first block of each stage."""
    stem, *middles = (_scale(channels, width) for channels in (STEM_CHANNELS, *STAGE_CHANNELS))
    outputs = [middle * kind.expansion for middle in middles]
    if last_output is not None:
        outputs[-1] = last_output
    inputs = [stem, *outputs[:-1]]
    return [BlockWidths(*widths) for widths in zip(inputs, middles, outputs, strict=True)]


def _scale(channels: int, width: float) -> int:
    scaled = int(channels * width)
    if scaled < 1:
        raise ModelError(f"a ResNet of width {width} has layers without a channel")
    return scaled


def _make_stage(kind: Depth, number: int, widths: BlockWidths, *, stride: int) -> nn.Sequential:
    shortcut = None
    # As in torchvision: ResNet-18's first stage has none, at whatever width.
    if number > 1 or kind.expansion > 1:
        shortcut = nn.Sequential(
            nn.Conv2d(widths.inputs, widths.outputs, 1, stride=stride, bias=False),
            nn.BatchNorm2d(widths.outputs),
        )
    later = BlockWidths(widths.outputs, widths.middle, widths.outputs)
    return nn.Sequential(
        kind.make_block(widths, stride, shortcut),
        *(kind.make_block(later, 1, None) for _ in range(kind.blocks[number - 1] - 1)),
    )


def _basic_block(widths: BlockWidths, stride: int, shortcut: nn.Module | None) -> nn.Module:
    block: nn.Module = BasicBlock(widths.inputs, widths.outputs, stride, shortcut)
    if widths.middle != widths.outputs:  # which torchvision does not provide for
        block.conv1 = conv3x3(widths.inputs, widths.middle, stride)
        block.bn1 = nn.BatchNorm2d(widths.middle)
        block.conv2 = conv3x3(widths.middle, widths.outputs)
    return block


def _bottleneck(widths: BlockWidths, stride: int, shortcut: nn.Module | None) -> nn.Module:
    planes = widths.outputs // Bottleneck.expansion
    # The name is misleading: channels of the middle for every 64 of ``planes``.
    base_width = STEM_CHANNELS * widths.middle / planes
    block: nn.Module = Bottleneck(widths.inputs, planes, stride, shortcut, base_width=base_width)
    return block


def _make_embedding(features: int, embedding_dim: int, *, normalised: bool) -> nn.Sequential:
    # No bias: the BatchNorm behind it, its own or the neck, would take it out again.
    layers: list[nn.Module] = [nn.Linear(features, embedding_dim, bias=False)]
    if normalised:
        layers.append(nn.BatchNorm1d(embedding_dim))
    return nn.Sequential(*layers)
