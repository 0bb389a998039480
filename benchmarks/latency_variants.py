"""OSNet written in other ways that compute the same, to see what an int8 engine makes of them."""

from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from reid_edge.models.osnet import OSBlock


def one_gate_call(model: nn.Module) -> None:
    """Stack the four streams' means as a batch, so that a block's gate is called once."""

    def forward(block: OSBlock, x: Tensor) -> Tensor:
        streams = _streams(block, x)
        means = torch.cat([F.adaptive_avg_pool2d(stream, 1) for stream in streams])
        gates = _gate(block, means).chunk(4)
        # By index: while it is traced, what chunk returns cannot be iterated over.
        gated = [stream * gates[number] for number, stream in enumerate(streams)]
        return _finish(block, block.conv3(sum(gated[1:], start=gated[0])), x)

    _replace_forward(model, forward)


def streams_side_by_side(model: nn.Module) -> None:
    """Put the four streams side by side as channels: one mean, one gate, one product, no sums.

    The last convolution of the block gets its weights four times, and adds the streams up itself.
    """

    def forward(block: OSBlock, x: Tensor) -> Tensor:
        streams = torch.cat(_streams(block, x), dim=1)
        gates = block.get_submodule("wide_gate")(F.adaptive_avg_pool2d(streams, 1))
        return _finish(block, block.get_submodule("wide_conv3")(streams * gates), x)

    for block in _blocks(model):
        gate = block.gate
        block.add_module(
            "wide_gate",
            nn.Sequential(_four_times(gate.fc1), nn.ReLU(), _four_times(gate.fc2), nn.Sigmoid()),
        )
        conv3 = fuse_conv_bn_eval(block.conv3.conv, block.conv3.bn)
        wide = nn.Conv2d(4 * conv3.in_channels, conv3.out_channels, 1)
        wide.weight.data, wide.bias = conv3.weight.data.repeat(1, 4, 1, 1), conv3.bias
        block.add_module("wide_conv3", wide)
    _replace_forward(model, forward)


def stem_on_blocks(model: nn.Module) -> None:
    """Write the 7 x 7 stem of stride 2 as a 4 x 4 one of stride 1 over blocks of 2 x 2 pixels."""
    stem = model.get_submodule("conv1")
    old = stem.get_submodule("conv")
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(12, old.out_channels, 4, bias=False)
    new.weight.data.zero_()
    for row in range(7):
        for column in range(7):
            (y, dy), (x, dx) = divmod(row - 3, 2), divmod(column - 3, 2)
            for colour in range(3):
                place = 4 * colour + 2 * dy + dx
                new.weight.data[:, place, y + 2, x + 2] = old.weight.data[:, colour, row, column]
    stem.add_module("conv", nn.Sequential(nn.PixelUnshuffle(2), nn.ZeroPad2d((2, 1, 2, 1)), new))


def _blocks(model: nn.Module) -> list[OSBlock]:
    return [module for module in model.modules() if isinstance(module, OSBlock)]


def _replace_forward(model: nn.Module, forward: Callable[[OSBlock, Tensor], Tensor]) -> None:
    for block in _blocks(model):
        block.forward = MethodType(forward, block)  # type: ignore[method-assign]


def _streams(block: OSBlock, x: Tensor) -> list[Tensor]:
    squeezed = block.conv1(x)
    return [conv(squeezed) for conv in (block.conv2a, block.conv2b, block.conv2c, block.conv2d)]


def _gate(block: OSBlock, means: Tensor) -> Tensor:
    gate = block.gate
    return torch.sigmoid(gate.fc2(F.relu(gate.fc1(means))))


def _finish(block: OSBlock, out: Tensor, x: Tensor) -> Tensor:
    identity = x if block.downsample is None else block.downsample(x)
    return F.relu(out + identity)


def _four_times(conv: nn.Conv2d) -> nn.Conv2d:
    """Apply a pointwise convolution to each of four groups of channels."""
    wide = nn.Conv2d(4 * conv.in_channels, 4 * conv.out_channels, 1)
    assert conv.bias is not None
    assert wide.bias is not None
    weights = conv.weight.data[:, :, 0, 0]
    blocks = torch.block_diag(*[weights] * 4)  # type: ignore[no-untyped-call]
    wide.weight.data = blocks[..., None, None]
    wide.bias.data = conv.bias.data.repeat(4)
    return wide
