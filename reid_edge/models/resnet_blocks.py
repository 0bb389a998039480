"""The residual blocks of ResNet, with inner widths of any size, and the layers of its variants.

Layer names, shapes and operations are those of torchvision's ``BasicBlock`` and ``Bottleneck``, so
that its weights fit and give the same numbers. Importing torchvision takes seconds, and its blocks
have fixed inner widths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BlockWidths:
    """Channels of a residual block.

    Attributes:
        inputs: channels of the block's input.
        middle: channels between its convolutions.
        outputs: channels of the residual sum.
    """

    inputs: int
    middle: int
    outputs: int


class IBN(nn.Module):
    """Instance normalisation of the first half of the channels, BatchNorm of the others.

    Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV
    2018. Names are those of its authors and of FastReID.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalised = channels // 2
        self.IN = nn.InstanceNorm2d(self.normalised, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.normalised)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        first, second = torch.split(x, [self.normalised, self.BN.num_features], dim=1)
        return torch.cat((self.IN(first), self.BN(second)), 1)


class NonLocal(nn.Module):
    """Adds to each position what it has in common with all others, in FastReID's form.

    Wang et al., "Non-local Neural Networks", CVPR 2018, with products of embeddings and a mean over
    the positions. FastReID's inner width is one channel, so that the product of the position with
    all others is a product with one mean: theta(x) mean(phi(x) g(x)).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Conv2d(channels, 1, 1)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # the block changes nothing before it is trained
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), norm)
        self.theta = nn.Conv2d(channels, 1, 1)
        self.phi = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        common = F.adaptive_avg_pool2d(self.phi(x) * self.g(x), 1)
        return self.W(self.theta(x) * common) + x  # type: ignore[no-any-return]


class GeneralizedMeanPooling(nn.Module):
    """The mean of the p-th powers over all positions, and its p-th root; p is learned.

    Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019.

    Args:
        exponent: p at the start; 1 is the average, infinity the maximum.
    """

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), exponent))
        # A root of zero has no gradient.
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 1, 1)."""
        powers = x.clamp(min=self.eps).pow(self.p)
        return F.adaptive_avg_pool2d(powers, 1).pow(1.0 / self.p)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual sum: the block of ResNet-18.

    Args:
        widths: channels.
        stride: of the first convolution.
        shortcut: brings the input to the shape of the output; None where it has it already.
        ibn: normalise the first half of the inner channels by instance.
        non_local: end in a non-local block.
    """

    expansion = 1

    def __init__(
        self,
        widths: BlockWidths,
        stride: int,
        shortcut: nn.Module | None,
        *,
        ibn: bool = False,
        non_local: bool = False,
    ) -> None:
        super().__init__()
        if widths.middle != widths.outputs:
            # Draws the random numbers of two published layers. They are not used, but earlier
            # versions drew them, and a seed has to give the same weights.
            _conv3x3(widths.inputs, widths.outputs)
            _conv3x3(widths.outputs, widths.outputs)
        self.conv1 = _conv3x3(widths.inputs, widths.middle, stride)
        self.bn1: nn.Module = IBN(widths.middle) if ibn else nn.BatchNorm2d(widths.middle)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(widths.middle, widths.outputs)
        self.bn2 = nn.BatchNorm2d(widths.outputs)
        self.downsample = shortcut
        self.non_local = NonLocal(widths.outputs) if non_local else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        out = self.relu(out)
        return out if self.non_local is None else self.non_local(out)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two pointwise ones and a residual sum: the block of ResNet-50.

    Args:
        widths: channels.
        stride: of the 3 x 3 convolution.
        shortcut: brings the input to the shape of the output; None where it has it already.
        ibn: normalise the first half of the inner channels by instance.
        non_local: end in a non-local block.
    """

    expansion = 4

    def __init__(
        self,
        widths: BlockWidths,
        stride: int,
        shortcut: nn.Module | None,
        *,
        ibn: bool = False,
        non_local: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(widths.inputs, widths.middle, 1, bias=False)
        self.bn1: nn.Module = IBN(widths.middle) if ibn else nn.BatchNorm2d(widths.middle)
        self.conv2 = _conv3x3(widths.middle, widths.middle, stride)
        self.bn2 = nn.BatchNorm2d(widths.middle)
        self.conv3 = nn.Conv2d(widths.middle, widths.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(widths.outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut
        self.non_local = NonLocal(widths.outputs) if non_local else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        out = self.relu(out)
        return out if self.non_local is None else self.non_local(out)  # type: ignore[no-any-return]


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
