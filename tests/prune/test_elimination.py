"""Channels go in the order that a search over all refits finds."""

import pytest
import torch
from torch import Tensor

from prune.elimination import Regression, eliminate, regression


def draw(channels: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    inputs = torch.randn(200, channels, generator=generator, dtype=torch.float64) @ mix
    return inputs - inputs.mean(0), torch.randn(
        outputs, channels, generator=generator, dtype=torch.float64
    )


def make(inputs: Tensor, weights: Tensor, ridge: float = 0.0) -> Regression:
    found = regression(inputs.T @ inputs / len(inputs), weights, ridge=ridge)
    assert found is not None
    return found


def refit_error(inputs: Tensor, weights: Tensor, kept: list[int]) -> float:
    """Return the relative squared error of the best fit to some channels, with ``lstsq``."""
    wanted = inputs @ weights.T
    fit = torch.linalg.lstsq(inputs[:, kept], wanted).solution
    return float((inputs[:, kept] @ fit - wanted).pow(2).sum() / wanted.pow(2).sum())


def naive_order(layers: list[tuple[Tensor, Tensor]]) -> list[int]:
    remaining, order = list(range(layers[0][0].shape[1])), []
    while len(remaining) > 1:
        errors = [
            sum(refit_error(x, w, [k for k in remaining if k != channel]) for x, w in layers)
            for channel in remaining
        ]
        order.append(remaining.pop(min(range(len(errors)), key=errors.__getitem__)))
    return order + remaining


@pytest.mark.parametrize("seed", range(3))
def test_order_equals_the_naive_one(seed: int) -> None:
    layers = [draw(8, 5, seed), draw(8, 3, seed + 10)]
    order = eliminate([make(*layer) for layer in layers]).order
    assert order.tolist() == naive_order(layers)


def test_errors_are_those_of_the_fit_to_the_rest() -> None:
    layers = [draw(8, 5, 0), draw(8, 3, 10)]
    found = eliminate([make(*layer) for layer in layers])
    for gone in range(1, 8):
        kept = found.order[gone:].tolist()
        wanted = sum(refit_error(inputs, weights, kept) for inputs, weights in layers)
        assert float(found.errors[gone - 1]) == pytest.approx(wanted, rel=1e-6)
    assert found.errors[-1] == torch.inf


def test_costs_are_what_the_error_grows_by() -> None:
    inputs, weights = draw(6, 4, seed=0)
    fit = make(inputs, weights).without(torch.tensor([1, 4]))
    kept = [0, 2, 3, 5]
    before = refit_error(inputs, weights, kept)
    for place, cost in enumerate(fit.costs().tolist()):
        others = [channel for channel in kept if channel != kept[place]]
        assert cost == pytest.approx(refit_error(inputs, weights, others) - before, rel=1e-6)


def test_removing_at_once_equals_one_after_the_other() -> None:
    fit = make(*draw(7, 4, seed=0))
    at_once = fit.without(torch.tensor([1, 2, 5]))
    in_turn = fit.without(torch.tensor([5])).without(torch.tensor([2])).without(torch.tensor([1]))
    assert torch.allclose(at_once.inverse, in_turn.inverse)
    assert torch.allclose(at_once.coefficients, in_turn.coefficients)


def test_of_two_copies_one_goes_first_and_the_other_stays() -> None:
    inputs, weights = draw(6, 4, seed=0)
    inputs[:, 4] = inputs[:, 1]
    order = eliminate([make(inputs, weights, ridge=1e-6)]).order.tolist()
    assert order[0] in (1, 4)
    assert order[1] != 5 - order[0]
    assert order.index(5 - order[0]) >= 2


def test_many_channels_go_several_at_a_time_and_lose_little_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prune.elimination.STEPS", 20)
    inputs, weights = draw(160, 20, seed=0)
    order = eliminate([make(inputs, weights)]).order.tolist()
    assert sorted(order) == list(range(160))
    fit, error = make(inputs, weights), 0.0
    for _ in range(80):
        error += float(fit.costs().min())
        fit = fit.without(fit.costs().argmin().unsqueeze(0))
    assert refit_error(inputs, weights, order[80:]) <= 1.1 * error


def test_outputs_that_do_not_vary_say_nothing() -> None:
    assert regression(torch.zeros(4, 4), torch.ones(3, 4), ridge=1e-2) is None
