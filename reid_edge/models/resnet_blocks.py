"""The residual blocks of ResNet, with inner widths of any size.

Layer names, shapes and operations are those of torchvision's ``BasicBlock`` and ``Bottleneck``, so
that its weights fit and give the same numbers. Importing torchvision takes seconds, and its blocks
have fixed inner widths.
"""

from dataclasses import dataclass

from torch import Tensor, nn


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


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual sum: the block of ResNet-18.

    Args:
        widths: channels.
        stride: of the first convolution.
        shortcut: brings the input to the shape of the output; None where it has it already.
    """

    expansion = 1

    def __init__(self, widths: BlockWidths, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        if widths.middle != widths.outputs:
            # Draws the random numbers of two published layers. They are not used, but earlier
            # versions drew them, and a seed has to give the same weights.
            _conv3x3(widths.inputs, widths.outputs)
            _conv3x3(widths.outputs, widths.outputs)
        self.conv1 = _conv3x3(widths.inputs, widths.middle, stride)
        self.bn1 = nn.BatchNorm2d(widths.middle)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(widths.middle, widths.outputs)
        self.bn2 = nn.BatchNorm2d(widths.outputs)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two pointwise ones and a residual sum: the block of ResNet-50.

    Args:
        widths: channels.
        stride: of the 3 x 3 convolution.
        shortcut: brings the input to the shape of the output; None where it has it already.
    """

    expansion = 4

    def __init__(self, widths: BlockWidths, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(widths.inputs, widths.middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths.middle)
        self.conv2 = _conv3x3(widths.middle, widths.middle, stride)
        self.bn2 = nn.BatchNorm2d(widths.middle)
        self.conv3 = nn.Conv2d(widths.middle, widths.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(widths.outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)  # type: ignore[no-any-return]


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
