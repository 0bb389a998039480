"""The solver equals a direct ``lstsq`` on small layers of every kind."""

import pytest
import torch
from torch import Tensor, nn

from prune.least_squares import solve

LAYERS = {
    "pointwise": nn.Conv2d(6, 4, 1, bias=False),
    "strided pointwise": nn.Conv2d(6, 4, 1, stride=2, bias=False),
    "spatial": nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    "grouped": nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=True),
    "dilated": nn.Conv2d(3, 4, 3, padding=2, dilation=2, bias=True),
    "reflecting": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=True),
    "linear": nn.Linear(7, 3),
}


def draw(layer: nn.Module, count: int, generator: torch.Generator) -> Tensor:
    if isinstance(layer, nn.Linear):
        return torch.randn(count, layer.in_features, generator=generator)
    return torch.randn(count, layer.in_channels, 9, 8, generator=generator)


def design_matrix(layer: nn.Module, inputs: list[Tensor], shiftable: bool) -> Tensor:
    """Return d output / d parameters, column by column: no unfolding, no grouping."""
    columns = []
    bias = getattr(layer, "bias", None)
    with torch.no_grad():
        saved = layer.weight.clone(), None if bias is None else bias.clone()
        if bias is not None:
            bias.zero_()
        for index in range(layer.weight.numel()):
            layer.weight.zero_()
            layer.weight.view(-1)[index] = 1
            columns.append(torch.cat([layer(value).flatten() for value in inputs]))
        layer.weight.copy_(saved[0])
        if bias is not None:
            bias.copy_(saved[1])
        if shiftable:
            shape = [torch.zeros_like(layer(value)) for value in inputs]
            for channel in range(layer.weight.shape[0]):
                for value in shape:
                    value.zero_()
                    value[:, channel] = 1
                columns.append(torch.cat([value.flatten() for value in shape]))
    return torch.stack(columns, 1).double()


@pytest.mark.parametrize("shiftable", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_equals_lstsq(kind: str, shiftable: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = LAYERS[kind]
    inputs = [draw(layer, 24, generator), draw(layer, 16, generator)]
    targets = [torch.randn(layer(value).shape, generator=generator).add(0.5) for value in inputs]
    weight, shift = solve(layer, inputs, targets, ridge=0.0, shiftable=shiftable)
    wanted = torch.cat([target.flatten() for target in targets]).double()
    solution = torch.linalg.lstsq(
        design_matrix(layer, inputs, shiftable), wanted.unsqueeze(1), driver="gelsd"
    ).solution.flatten()
    count = layer.weight.numel()
    assert torch.allclose(weight.double().flatten(), solution[:count], atol=1e-4)
    expected_shift = solution[count:] if shiftable else torch.zeros(layer.weight.shape[0])
    assert torch.allclose(shift.double(), expected_shift.double(), atol=1e-4)


@pytest.mark.parametrize("shiftable", [True, False])
@pytest.mark.parametrize("kind", ["spatial", "grouped", "linear"])
def test_fewer_rows_than_unknowns(
    kind: str, shiftable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    wide = {
        "spatial": nn.Conv2d(16, 5, 3, bias=False),
        "grouped": nn.Conv2d(32, 6, 3, groups=2),
        "linear": nn.Linear(200, 3),
    }
    layer = wide[kind]
    inputs = [
        torch.randn(count, 200, generator=generator)
        if kind == "linear"
        else torch.randn(count, layer.in_channels, 5, 5, generator=generator)
        for count in (5, 3)
    ]
    targets = [torch.randn(layer(value).shape, generator=generator).add(0.5) for value in inputs]
    expected = solve(layer, inputs, targets, ridge=0.01, shiftable=shiftable)
    monkeypatch.setattr("prune.least_squares.MANY_UNKNOWNS", 0)
    monkeypatch.setattr("prune.least_squares._Sums", None)  # the other way is not gone
    found = solve(layer, inputs, targets, ridge=0.01, shiftable=shiftable)
    for value, wanted in zip(found, expected, strict=True):
        assert value.shape == wanted.shape
        assert torch.allclose(value, wanted, atol=1e-4)


def test_a_strong_ridge_keeps_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = LAYERS["pointwise"]
    inputs = [draw(layer, 8, generator)]
    targets = [torch.randn(layer(inputs[0]).shape, generator=generator)]
    weight, _ = solve(layer, inputs, targets, ridge=1e9, shiftable=False)
    assert torch.allclose(weight, layer.weight, atol=1e-6)


def test_inputs_without_any_variation_leave_the_weights_alone() -> None:
    layer = LAYERS["pointwise"]
    zeros = torch.zeros(4, 6, 5, 5)
    weight, shift = solve(layer, [zeros], [torch.ones(4, 4, 5, 5)], ridge=1e-2, shiftable=True)
    assert torch.allclose(weight, layer.weight)
    assert torch.allclose(shift, torch.ones(4))


def test_a_nearly_constant_channel_far_from_zero_keeps_its_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(64, 4, 16, 16, generator=generator)
    value[:, 0] = 1000 + 1e-2 * value[:, 0]  # in float32, squares of 1e6 would swallow 1e-4
    layer = nn.Conv2d(4, 3, 1)
    true = torch.tensor([[50.0, 0.5, -1.0, 0.3]] * 3)
    target = torch.einsum("oc,nchw->nohw", true.double(), value.double()).float()
    weight, shift = solve(layer, [value], [target], ridge=1e-9, shiftable=True)
    solved = torch.einsum("oc,nchw->nohw", weight.flatten(1).double(), value.double())
    error = solved + shift.double().view(1, -1, 1, 1) - target
    assert error.var() < 1e-2 * target.var()
