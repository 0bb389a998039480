"""The weights of one layer that map given inputs closest to given outputs."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Far more equations than unknowns only cost time. A layer is solved on at least ROWS output
# positions, spread over all images, and on at least ROWS_AN_UNKNOWN for every unknown.
ROWS = 4096
ROWS_AN_UNKNOWN = 128
IMAGES_AT_ONCE = 64
# With more unknowns than this, a system of the size of the rows is solved if that is smaller.
MANY_UNKNOWNS = 4096
# Added to the diagonal of the normal equations, as a share of its mean.
RIDGE = 1e-2


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
    unknowns, positions = present.shape[1], sum(t.numel() // len(layer.weight) for t in targets)
    if unknowns > MANY_UNKNOWNS and positions < unknowns:
        solution, shift = _solve_few(layer, inputs, targets, present, ridge, shiftable=shiftable)
        return _as_weight(solution, layer), shift.flatten().to(layer.weight.dtype)
    sums = _Sums(groups, present.shape[1], present.shape[2], about_first=shiftable)
    wanted = max(ROWS, ROWS_AN_UNKNOWN * present.shape[1]) // len(inputs)
    for value, target in zip(inputs, targets, strict=True):
        for part, expected in zip(
            torch.split(value, IMAGES_AT_ONCE), torch.split(target, IMAGES_AT_ONCE), strict=True
        ):
            share = math.ceil(wanted * len(part) / len(value))
            sums.add(*_rows(layer, part, expected, share))
    gram, cross = sums.centred() if shiftable else (sums.gram, sums.cross)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    pull = ridge * diagonal.mean(dim=1, keepdim=True).clamp_min(1e-12)
    system = gram + torch.diag_embed(pull.expand_as(diagonal))
    solution = present + torch.linalg.solve(system, cross - gram @ present)
    if shiftable:
        shift = sums.mean_target - (sums.mean_row.unsqueeze(1) @ solution).squeeze(1)
    else:
        shift = torch.zeros_like(sums.mean_target)
    return _as_weight(solution, layer), shift.flatten().to(layer.weight.dtype)


def _as_weight(solution: Tensor, layer: nn.Conv2d | nn.Linear) -> Tensor:
    return solution.transpose(1, 2).reshape(layer.weight.shape).to(layer.weight.dtype)


def _solve_few(
    layer: nn.Conv2d | nn.Linear,
    inputs: list[Tensor],
    targets: list[Tensor],
    present: Tensor,
    ridge: float,
    *,
    shiftable: bool,
) -> tuple[Tensor, Tensor]:
    """Solve the same problem with a system as large as the number of rows, not of unknowns.

    The first linear layer of VGG-16 reads 25,088 values: its normal equations alone take 5 GB.

    Returns:
        Solution (groups, d, o) and shift (groups, o).
    """
    parts = [
        _rows(layer, value, target, target.numel())
        for value, target in zip(inputs, targets, strict=True)
    ]
    rows, wanted = (torch.cat(part, dim=2).double() for part in zip(*parts, strict=True))
    mean_row, mean_target = rows.mean(2, keepdim=True), wanted.mean(2, keepdim=True)
    if not shiftable:
        mean_row, mean_target = torch.zeros_like(mean_row), torch.zeros_like(mean_target)
    rows, wanted = rows - mean_row, wanted - mean_target
    pull = ridge * rows.pow(2).sum(dim=(1, 2)).div(rows.shape[1]).clamp_min(1e-12)
    products = rows.transpose(1, 2) @ rows
    system = products + torch.diag_embed(pull.unsqueeze(1).expand(-1, rows.shape[2]))
    missing = wanted.transpose(1, 2) - rows.transpose(1, 2) @ present
    solution = present + rows @ torch.linalg.solve(system, missing)
    return solution, (mean_target.transpose(1, 2) - mean_row.transpose(1, 2) @ solution).squeeze(1)


class _Sums:
    """Sums over rows x (d,) and targets y (o,), by group: x x', x y', x, y.

    With ``about_first`` the mean of the first rows is subtracted from all rows. Otherwise rounding
    would hide the variance of a nearly constant channel whose mean is far from zero.
    """

    def __init__(self, groups: int, inputs: int, outputs: int, *, about_first: bool) -> None:
        self._about_first = about_first
        self._origin = torch.zeros(groups, inputs, 1), torch.zeros(groups, outputs, 1)
        self.gram = torch.zeros(groups, inputs, inputs, dtype=torch.float64)
        self.cross = torch.zeros(groups, inputs, outputs, dtype=torch.float64)
        self._row = torch.zeros(groups, inputs, dtype=torch.float64)
        self._target = torch.zeros(groups, outputs, dtype=torch.float64)
        self._count = 0

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Add rows (groups, d, n) and targets (groups, o, n)."""
        if self._about_first and self._count == 0:
            self._origin = rows.mean(2, keepdim=True), targets.mean(2, keepdim=True)
        if self._about_first:
            rows, targets = rows - self._origin[0], targets - self._origin[1]
        self.gram += (rows @ rows.transpose(1, 2)).double()
        self.cross += (rows @ targets.transpose(1, 2)).double()
        self._row += rows.sum(2, dtype=torch.float64)
        self._target += targets.sum(2, dtype=torch.float64)
        self._count += rows.shape[2]

    @property
    def mean_row(self) -> Tensor:
        """Return the mean input (groups, d)."""
        return self._row / self._count + self._origin[0].squeeze(2).double()

    @property
    def mean_target(self) -> Tensor:
        """Return the mean target (groups, o)."""
        return self._target / self._count + self._origin[1].squeeze(2).double()

    def centred(self) -> tuple[Tensor, Tensor]:
        """Return both products about the means."""
        row, target = self._row / self._count, self._target / self._count
        gram = self.gram - self._count * row.unsqueeze(2) @ row.unsqueeze(1)
        cross = self.cross - self._count * row.unsqueeze(2) @ target.unsqueeze(1)
        return gram, cross


def _rows(
    layer: nn.Conv2d | nn.Linear, value: Tensor, target: Tensor, wanted: int
) -> tuple[Tensor, Tensor]:
    """Return rows (groups, d, n) and targets (groups, o, n), about ``wanted`` of them."""
    if isinstance(layer, nn.Linear):
        return value.flatten(0, -2).T.unsqueeze(0), target.flatten(0, -2).T.unsqueeze(0)
    columns = target.shape[3]
    chosen = choose_places(target.shape[2] * columns, math.ceil(wanted / len(value)))
    # The rows are in the order of torch.nn.functional.unfold, which would first copy the inputs
    # once for every tap.
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    margins = layer._reversed_padding_repeated_twice
    padded = F.pad(value, margins, mode=mode) if any(margins) else value
    width = padded.shape[3]
    corners = chosen // columns * layer.stride[0] * width + chosen % columns * layer.stride[1]
    offsets = [
        row * layer.dilation[0] * width + column * layer.dilation[1]
        for row in range(layer.kernel_size[0])
        for column in range(layer.kernel_size[1])
    ]
    indices = torch.stack([corners + offset for offset in offsets])
    rows = _at(padded, indices.flatten())
    rows = rows.reshape(len(value), value.shape[1] * len(offsets), len(chosen))
    return _by_group(rows, layer.groups), _by_group(_at(target, chosen), layer.groups)


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Return values (N, C, H, W) at places of their maps: (N, C, places)."""
    count, channels = values.shape[:2]
    # Of a matrix PyTorch selects columns five times as fast as of three dimensions.
    maps = values.reshape(count * channels, -1)
    return maps.index_select(1, places).reshape(count, channels, -1)


def choose_places(places: int, count: int) -> Tensor:
    """Choose output positions, the same for every image: all, or a fixed random part."""
    if count >= places:
        return torch.arange(places)
    generator = torch.Generator().manual_seed(places)
    return torch.randperm(places, generator=generator)[:count].sort().values


def _by_group(values: Tensor, groups: int) -> Tensor:
    """Map (N, groups * d, L) to (groups, d, N * L)."""
    count, channels, places = values.shape
    split = values.reshape(count, groups, channels // groups, places)
    return split.permute(1, 2, 0, 3).reshape(groups, channels // groups, count * places)
