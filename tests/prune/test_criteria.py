"""Every criterion ranks as its paper says, and lands at the planned widths."""

import pytest
import torch
from torch import Tensor, nn

from prune.criteria import CRITERIA, Criterion, rescore
from prune.cut import Cut, cut
from prune.layers import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruction_scores import reconstruction_scores
from prune.taylor import taylor_scores

WIDTHS = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}


def measure(model: nn.Module, criterion: Criterion) -> dict[str, Tensor] | None:
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    if criterion == "reconstruction":
        groups = find_groups(model, images[:2])
        return reconstruction_scores(model, images, widths=WIDTHS, groups=groups)
    if criterion == "taylor":
        return taylor_scores(model, [images], lambda copy, batch: copy(batch).pow(2).mean())
    return None


def run(model: nn.Module, criterion: Criterion, seed: int = 0) -> Cut:
    example = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return cut(model, WIDTHS, example=example, check_input=example, criterion=criterion, seed=seed,
               measured=measure(model, criterion))  # fmt: skip


@pytest.mark.parametrize("criterion", CRITERIA)
def test_widths_and_agreement(small_net: nn.Module, criterion: Criterion) -> None:
    result = run(small_net, criterion)
    assert layer_widths(result.model) == WIDTHS | {"head": 5}
    assert result.difference <= 1e-4


def naive_score(criterion: str, weight: Tensor) -> Tensor:
    rows = [row.flatten() for row in weight]
    if criterion == "l1":
        return torch.stack([row.abs().sum() for row in rows])
    if criterion == "l2":
        return torch.stack([row.pow(2).sum().sqrt() for row in rows])
    return torch.stack(
        [torch.stack([(row - other).norm() for other in rows]).sum() for row in rows]
    )


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
def test_scores_equal_naive_ones(small_net: nn.Module, criterion: Criterion) -> None:
    result = run(small_net, criterion)
    naive = {
        name: naive_score(criterion, small_net.get_submodule(name).weight.detach())
        for name in WIDTHS
    }
    assert result.scores.keys() == naive.keys()
    for group in result.groups:
        wanted = torch.stack([naive[name] / naive[name].mean() for name in group]).mean(0)
        for name in group:
            assert torch.allclose(result.scores[name], wanted, atol=1e-5), name


@pytest.mark.parametrize("criterion", CRITERIA)
def test_no_channel_that_goes_scores_above_one_that_stays(
    small_net: nn.Module, criterion: Criterion
) -> None:
    result = run(small_net, criterion)
    for name in WIDTHS:
        stays = torch.zeros(8, dtype=torch.bool)
        stays[result.kept[name]] = True
        assert result.scores[name][~stays].max() <= result.scores[name][stays].min(), name


def test_batchnorm_scale_follows_the_scale(small_net: nn.Module) -> None:
    scale = torch.tensor([3.0, 1.0, -5.0, 0.1, 2.0, 0.2, 4.0, 0.3])
    with torch.no_grad():
        small_net.get_submodule("stem_norm").weight.copy_(scale)
        small_net.get_submodule("depthwise_norm").weight.copy_(scale)
    result = run(small_net, "batchnorm_scale")
    for name in WIDTHS:  # layers without a BatchNorm follow those of their group
        assert result.kept[name].tolist() == [0, 1, 2, 4, 6]


def test_random_is_a_function_of_the_seed(small_net: nn.Module) -> None:
    first, again, other = (run(small_net, "random", seed).scores["stem"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_layer_of_zeros_does_not_divide_by_zero(small_net: nn.Module) -> None:
    scores = rescore("l2", {"stem": torch.zeros(8)}, model=small_net, normalisations={}, groups=[],
                     seed=0)  # fmt: skip
    assert torch.equal(scores["stem"], torch.zeros(8))


def test_small_scores_are_brought_to_one_scale_too(small_net: nn.Module) -> None:
    measured = {"stem": torch.rand(8) * 1e-15, "gate": torch.rand(8) * 1e-9}
    scores = rescore("taylor", measured, model=small_net, normalisations={}, groups=[], seed=0,
                     measured=measured)  # fmt: skip
    for score in scores.values():
        assert score.mean() == pytest.approx(1)
