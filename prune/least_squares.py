"""The weights of one layer that map given inputs closest to given outputs."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VALUES_AT_ONCE = 2**25


def solve(
    layer: nn.Conv2d | nn.Linear,
    inputs: list[Tensor],
    targets: list[Tensor],
    *,
    ridge: float,
    shiftable: bool,
) -> tuple[Tensor, Tensor]:
    """Minimise sum ||layer(x) + shift - y||^2 + ridge * mean diagonal * ||W - W_now||^2.

    Normal equations, one system a group: of the input width for pointwise and linear layers, of
    nine taps a channel for a depthwise 3 x 3.

    Args:
        layer: whose weights to solve for; it is not changed.
        inputs: of each call of the layer.
        targets: wanted outputs of each call.
        ridge: weight of the pull towards the present weights.
        shiftable: whether a constant a channel may be added to the output. For a layer with a
            bias the shift returned is the new bias.

    Returns:
        Weight in the layer's shape, and shift (C_out,), zero if not shiftable.
    """
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight = layer.weight.detach().double().reshape(groups, layer.weight.shape[0] // groups, -1)
    present = weight.transpose(1, 2)
    sums = _Sums(groups, present.shape[1], present.shape[2])
    for value, target in zip(inputs, targets, strict=True):
        for rows, wanted in _rows(layer, value, target):
            sums.add(rows, wanted)
    gram, cross = sums.centred() if shiftable else (sums.gram, sums.cross)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    pull = ridge * diagonal.mean(dim=1, keepdim=True).clamp_min(1e-12)
    system = gram + torch.diag_embed(pull.expand_as(diagonal))
    solution = present + torch.linalg.solve(system, cross - gram @ present)
    if shiftable:
        shift = sums.mean_target - (sums.mean_row.unsqueeze(1) @ solution).squeeze(1)
    else:
        shift = torch.zeros_like(sums.mean_target)
    return (
        solution.transpose(1, 2).reshape(layer.weight.shape).to(layer.weight.dtype),
        shift.flatten().to(layer.weight.dtype),
    )


class _Sums:
    """Sums over rows x (d,) and targets y (o,), by group: x x', x y', x, y."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        self.gram = torch.zeros(groups, inputs, inputs, dtype=torch.float64)
        self.cross = torch.zeros(groups, inputs, outputs, dtype=torch.float64)
        self._row = torch.zeros(groups, inputs, dtype=torch.float64)
        self._target = torch.zeros(groups, outputs, dtype=torch.float64)
        self._count = 0

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Add rows (groups, d, n) and targets (groups, o, n)."""
        self.gram += (rows @ rows.transpose(1, 2)).double()
        self.cross += (rows @ targets.transpose(1, 2)).double()
        self._row += rows.sum(2, dtype=torch.float64)
        self._target += targets.sum(2, dtype=torch.float64)
        self._count += rows.shape[2]

    @property
    def mean_row(self) -> Tensor:
        """Return the mean input (groups, d)."""
        return self._row / self._count

    @property
    def mean_target(self) -> Tensor:
        """Return the mean target (groups, o)."""
        return self._target / self._count

    def centred(self) -> tuple[Tensor, Tensor]:
        """Return both products about the means."""
        gram = self.gram - self._count * self.mean_row.unsqueeze(2) @ self.mean_row.unsqueeze(1)
        cross = self.cross - self._count * self.mean_row.unsqueeze(2) @ self.mean_target.unsqueeze(
            1
        )
        return gram, cross


def _rows(
    layer: nn.Conv2d | nn.Linear, value: Tensor, target: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows (groups, d, n) and targets (groups, o, n), a part of the pictures at a time."""
    if isinstance(layer, nn.Linear):
        yield value.flatten(0, -2).T.unsqueeze(0), target.flatten(0, -2).T.unsqueeze(0)
        return
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    values_each = value.shape[1] * taps * target.shape[2] * target.shape[3]
    pictures = max(1, VALUES_AT_ONCE // values_each)
    for part, wanted in zip(
        torch.split(value, pictures), torch.split(target, pictures), strict=True
    ):
        yield (
            _by_group(_unfold(layer, part), layer.groups),
            _by_group(wanted.flatten(2), layer.groups),
        )


def _unfold(layer: nn.Conv2d, value: Tensor) -> Tensor:
    """Return (N, C_in * taps, L), the inputs that each output position sees."""
    if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
        return value[:, :, :: layer.stride[0], :: layer.stride[1]].flatten(2)
    padding = layer.padding
    if isinstance(padding, str):
        raise TypeError("string padding is resolved by the caller")
    if layer.padding_mode != "zeros":
        value = F.pad(value, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        padding = (0, 0)
    return F.unfold(
        value, layer.kernel_size, dilation=layer.dilation, padding=padding, stride=layer.stride
    )


def _by_group(values: Tensor, groups: int) -> Tensor:
    """Map (N, groups * d, L) to (groups, d, N * L)."""
    count, channels, places = values.shape
    split = values.reshape(count, groups, channels // groups, places)
    return split.permute(1, 2, 0, 3).reshape(groups, channels // groups, count * places)
