"""Recalibration sets statistics and nothing else."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from prune.recalibrate import rebase, recalibrate
from reid_edge.core.errors import PruneError


def test_statistics_become_those_of_the_images() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weights = {name: value.clone() for name, value in model.named_parameters()}
    batches = [torch.randn(8, 3, 5, 5), torch.randn(8, 3, 5, 5) + 1]
    told: list[tuple[int, int]] = []
    recalibrate(model, batches, lambda done, total: told.append((done, total)))
    assert told == [(done, len(batches)) for done in range(1, len(batches) + 1)]
    outputs = [model[0](batch).detach() for batch in batches]
    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.transpose(0, 1).flatten(1).var(1) for output in outputs]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(model[1].running_var, variance, atol=1e-6)
    assert model[1].momentum == 0.1
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())


def test_statistics_that_are_not_finite_are_refused() -> None:
    model = make_net()
    with torch.no_grad():
        model[3].weight[0] = 1e38  # type: ignore[index]
    with pytest.raises(PruneError, match=r"^4: its BatchNorm statistics are not finite on the im"):
        recalibrate(model, [torch.randn(4, 3, 6, 6)])


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), nn.BatchNorm1d(6),
    )  # fmt: skip


def test_rebasing_changes_statistics_but_not_the_model(
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    model = make_net()
    randomise_normalisation(model)
    images = 2 * torch.randn(16, 3, 6, 6) + 1
    before = model.eval()(images)
    told: list[tuple[int, int]] = []
    rebase(model, images.split(4), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.allclose(model(images), before, atol=1e-4)
    assert not model.training
    first = model[0](images).detach()
    assert torch.allclose(model[1].running_mean, first.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(model[1].running_var, first.transpose(0, 1).flatten(1).var(1), atol=1e-4)


def test_training_starts_from_the_rebased_model(
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    model = make_net()
    randomise_normalisation(model)
    images = torch.randn(64, 3, 6, 6)
    apart = (model.train()(images) - copy.deepcopy(model).eval()(images)).abs().max()
    randomise_normalisation(model)
    rebase(model, [images])
    expected = model.eval()(images)
    together = (model.train()(images) - expected).abs().max()
    assert together < 0.05 < apart


def test_rebasing_again_changes_nothing(
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    model = make_net()
    randomise_normalisation(model)
    images = torch.randn(16, 3, 6, 6)
    rebase(model, [images])
    once = copy.deepcopy(model.state_dict())
    rebase(model, [images])
    assert all(
        torch.allclose(value, once[name], atol=1e-5) for name, value in model.state_dict().items()
    )


def test_a_shift_that_is_fixed_stays_as_it_is(
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    model = make_net()
    randomise_normalisation(model)
    neck = model[-1]
    neck.bias.data.zero_()
    neck.bias.requires_grad_(False)
    statistics = neck.running_mean.clone(), neck.running_var.clone()
    images = 2 * torch.randn(16, 3, 6, 6) + 1
    expected = model.eval()(images)
    rebase(model, [images])
    assert torch.equal(neck.bias, torch.zeros(6))
    assert torch.equal(neck.running_mean, statistics[0])
    assert torch.equal(neck.running_var, statistics[1])
    assert torch.allclose(model(images), expected, atol=1e-5)
