"""ResNets for re-identification.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; last stride 1 and BNNeck:
Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPRW 2019.
Names and shapes of the backbone are torchvision's, so that its ImageNet weights fit.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reid_edge.core.errors import ModelError
from reid_edge.models.architecture import Architecture
from reid_edge.models.osnet import initialise
from reid_edge.models.resnet_blocks import (
    BasicBlock,
    BlockWidths,
    Bottleneck,
    GeneralizedMeanPooling,
)

STEM_CHANNELS = 64
STAGE_CHANNELS = (64, 128, 256, 512)
# Of generalized mean pooling, at the start.
EXPONENT = 3.0


@dataclass(frozen=True)
class Depth:
    """The blocks of a ResNet.

    Attributes:
        block: class of its blocks.
        blocks: number of blocks in each of the four stages.
        non_local: number of last blocks in each stage that FastReID gives a non-local block.
    """

    block: type[BasicBlock] | type[Bottleneck]
    blocks: tuple[int, int, int, int]
    non_local: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def features(self) -> int:
        """Channels of the last stage at full width."""
        return STAGE_CHANNELS[-1] * self.block.expansion


DEPTHS = {
    18: Depth(BasicBlock, (2, 2, 2, 2)),
    34: Depth(BasicBlock, (3, 4, 6, 3)),
    50: Depth(Bottleneck, (3, 4, 6, 3), non_local=(0, 2, 3, 0)),
    101: Depth(Bottleneck, (3, 4, 23, 3), non_local=(0, 2, 9, 0)),
}


class ResNet(nn.Module):
    """ResNet for training and inference.

    In training mode it returns (logits (N, num_classes), embeddings (N, D)), in evaluation mode
    the embeddings alone. With a BNNeck the embeddings in training mode are the input of its
    BatchNorm, for losses on distances; those in evaluation mode are its output.

    Narrow ResNets are targets of pruning. All layers of a residual stage share their output
    channels, so ``width`` scales the residual stream and the layers inside the blocks alike. A
    ResNet without an embedding layer keeps the full width of its last stream, which is the
    embedding, at every ``width``, as OSNet does.

    Args:
        depth: 18, 34, 50 or 101.
        num_classes: size of the classifier.
        embedding_dim: D, size of the embedding. None or the full-width backbone's size (512 for
            ResNet-18 and 34, 2048 for others): the pooled features; another size: a linear
            embedding layer with BatchNorm.
        width: share of the published architecture's channels.
        last_stride: stride of the last stage; 1 keeps its feature map at twice the published size.
            The weights fit both strides, but the embeddings differ.
        bnneck: a BatchNorm without shift between embedding and classifier; it replaces the
            BatchNorm of an embedding layer.
        padded_stem: pad the input of the first pooling, as torchvision does; without padding the
            pooling starts in the corner, as FastReID's. Sizes and weights are the same, but the
            embeddings differ.
        ibn: instance normalisation of half of the inner channels, in the first three stages.
        non_local: non-local blocks behind the last blocks of the stages, as FastReID has them.
        gem: generalized mean pooling, with an exponent that is learned.

    Raises:
        ModelError: the depth is not known, or a layer has no channel left.
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
        ibn: bool = False,
        non_local: bool = False,
        gem: bool = False,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ModelError(f"no ResNet of depth {depth}: known are {', '.join(map(str, DEPTHS))}")
        kind = DEPTHS[depth]
        self.last_stride = last_stride
        self.padded_stem = padded_stem
        self.embedding_dim = embedding_dim or kind.features
        has_layer = self.embedding_dim != kind.features
        stages = _block_widths(kind, width, last_output=None if has_layer else kind.features)
        self.conv1 = nn.Conv2d(3, stages[0].inputs, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stages[0].inputs)
        self.relu = nn.ReLU(inplace=True)
        # Without padding, the last window may cross the edge, so that the size is the same.
        self.maxpool = nn.MaxPool2d(
            3, stride=2, padding=1 if padded_stem else 0, ceil_mode=not padded_stem
        )
        make = partial(_make_stage, kind, ibn=ibn, non_local=non_local)
        self.layer1 = make(1, stages[0], stride=1)
        self.layer2 = make(2, stages[1], stride=2)
        self.layer3 = make(3, stages[2], stride=2)
        # The features of the last stage keep the style that instance normalisation removes.
        self.layer4 = make(4, stages[3], stride=last_stride, ibn=False)
        self.global_avgpool = GeneralizedMeanPooling(EXPONENT) if gem else nn.AdaptiveAvgPool2d(1)
        self.embedding = None
        if has_layer:
            # No bias: the BatchNorm behind it, its own or the BNNeck, would subtract it.
            layers: list[nn.Module] = [nn.Linear(stages[3].outputs, self.embedding_dim, bias=False)]
            if not bnneck:
                layers.append(nn.BatchNorm1d(self.embedding_dim))
            self.embedding = nn.Sequential(*layers)
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


def _block_widths(kind: Depth, width: float, *, last_output: int | None) -> list[BlockWidths]:
    """Return the widths of the first block of each stage.

    Args:
        kind: the blocks.
        width: share of the published channels.
        last_output: output channels of the last stage; None: scaled like the others.
    """
    stem, *middles = (int(channels * width) for channels in (STEM_CHANNELS, *STAGE_CHANNELS))
    if min(stem, *middles) < 1:
        raise ModelError(f"a ResNet of width {width} has layers without a channel")
    outputs = [middle * kind.block.expansion for middle in middles]
    if last_output is not None:
        outputs[-1] = last_output
    inputs = [stem, *outputs[:-1]]
    return [BlockWidths(*widths) for widths in zip(inputs, middles, outputs, strict=True)]


def _make_stage(
    kind: Depth, number: int, widths: BlockWidths, *, stride: int, ibn: bool, non_local: bool
) -> nn.Sequential:
    shortcut = None
    # As in torchvision: the first stage of ResNet-18 has none, at any width.
    if number > 1 or kind.block.expansion > 1:
        shortcut = nn.Sequential(
            nn.Conv2d(widths.inputs, widths.outputs, 1, stride=stride, bias=False),
            nn.BatchNorm2d(widths.outputs),
        )
    later = BlockWidths(widths.outputs, widths.middle, widths.outputs)
    blocks = kind.blocks[number - 1]
    first_non_local = blocks - kind.non_local[number - 1] if non_local else blocks
    return nn.Sequential(
        kind.block(widths, stride, shortcut, ibn=ibn, non_local=first_non_local == 0),
        *(
            kind.block(later, 1, None, ibn=ibn, non_local=block >= first_non_local)
            for block in range(1, blocks)
        ),
    )


def _declare(depth: int, suffix: str, description: str, **options: Any) -> Architecture:
    """Declare a ResNet; its last stride is open unless a variant (``suffix``) settles it."""
    name = f"resnet{depth}"
    is_plain = not suffix
    return Architecture(
        name=name + suffix,
        family="resnet",
        description=f"ResNet-{depth}{description}",
        build=partial(ResNet, depth, **options),
        embedding_dim=DEPTHS[depth].features,
        bnneck=f"{name}_bnneck" if is_plain else None,
        stride_2=f"{name}_last_stride_2" if is_plain else None,
        fastreid=name + suffix if "_fastreid" in suffix else f"{name}_fastreid",
    )


RESNET18 = _declare(18, "", " with a last stride of 1")
RESNET50 = _declare(50, "", " with a last stride of 1")
RESNET18_BNNECK = _declare(18, "_bnneck", " with a BNNeck", bnneck=True)
RESNET50_BNNECK = _declare(50, "_bnneck", " with a BNNeck", bnneck=True)
# The strides of torchvision, and of torchreid's, BoxMOT's and layumi's plain ResNets.
RESNET18_LAST_STRIDE_2 = _declare(18, "_last_stride_2", " as in torchvision", last_stride=2)
RESNET50_LAST_STRIDE_2 = _declare(50, "_last_stride_2", " as in torchvision", last_stride=2)
# FastReID builds a BNNeck and a first pooling without padding.
_declare_fastreids = partial(_declare, bnneck=True, padded_stem=False)
RESNET18_FASTREID = _declare_fastreids(18, "_fastreid", " as in FastReID")
RESNET50_FASTREID = _declare_fastreids(50, "_fastreid", " as in FastReID")
RESNET50_IBN_FASTREID = _declare_fastreids(50, "_ibn_fastreid", "-IBN as in FastReID", ibn=True)
RESNET101_IBN_FASTREID = _declare_fastreids(101, "_ibn_fastreid", "-IBN as in FastReID", ibn=True)
# Its stronger baseline (SBS) and AGW. They have no non-local blocks at depths 18 and 34.
_declare_sbs = partial(_declare_fastreids, gem=True, non_local=True)
RESNET18_FASTREID_SBS = _declare_sbs(18, "_fastreid_sbs", " as in FastReID's SBS and AGW")
RESNET34_FASTREID_SBS = _declare_sbs(34, "_fastreid_sbs", " as in FastReID's SBS and AGW")
RESNET50_FASTREID_SBS = _declare_sbs(50, "_fastreid_sbs", " as in FastReID's SBS and AGW")
RESNET50_IBN_FASTREID_SBS = _declare_sbs(
    50, "_ibn_fastreid_sbs", "-IBN as in FastReID's SBS and AGW", ibn=True
)
RESNET101_IBN_FASTREID_SBS = _declare_sbs(
    101, "_ibn_fastreid_sbs", "-IBN as in FastReID's SBS and AGW", ibn=True
)
# These widths are not published; they are targets of pruning.
RESNET18_X0_5 = _declare(18, "_x0_5", " at half of its width", width=0.5)
RESNET50_X0_5 = _declare(50, "_x0_5", " at half of its width", width=0.5)
RESNET18_BNNECK_X0_5 = _declare(
    18, "_bnneck_x0_5", " with a BNNeck at half of its width", width=0.5, bnneck=True
)
RESNET50_BNNECK_X0_5 = _declare(
    50, "_bnneck_x0_5", " with a BNNeck at half of its width", width=0.5, bnneck=True
)
