"""Every criterion ranks as its paper says, and lands at the planned widths."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune.criteria import CRITERIA
from prune.criteria.criterion import Criterion, ScoreRequest, ScoringData, score_channels
from prune.layer_widths import layer_widths
from prune.pruning import prune
from prune.surgery import Cut, cut
from reid_edge.core.errors import PruneError

pytestmark = pytest.mark.medium

WIDTHS = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}


def run(model: nn.Module, criterion: str | Criterion, seed: int = 0) -> Cut:
    example = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    data = ScoringData(
        [images], [torch.zeros(8)], lambda copy, batch, _classes: copy(batch).pow(2).mean()
    )
    return cut(model, WIDTHS, example=example, check_input=example, criterion=criterion, seed=seed,
               data=data)  # fmt: skip


@pytest.mark.parametrize("criterion", CRITERIA)
def test_widths_and_agreement(small_net: nn.Module, criterion: str) -> None:
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
def test_scores_equal_naive_ones(small_net: nn.Module, criterion: str) -> None:
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
    small_net: nn.Module, criterion: str
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


def request(model: nn.Module, *layers: str, data: ScoringData | None = None) -> ScoreRequest:
    return ScoreRequest(model, layers, WIDTHS, groups=[], data=data)


def test_a_layer_of_zeros_does_not_divide_by_zero(small_net: nn.Module) -> None:
    with torch.no_grad():
        small_net.get_submodule("stem").weight.zero_()
    scores = score_channels(CRITERIA.load("l2"), request(small_net, "stem"))
    assert torch.equal(scores["stem"], torch.zeros(8))


def test_small_scores_are_brought_to_one_scale_too(small_net: nn.Module) -> None:
    found = {"stem": torch.rand(8) * 1e-15, "gate": torch.rand(8) * 1e-9}
    criterion = Criterion("mine", "a test's own", "weights", lambda _: found)
    for score in score_channels(criterion, request(small_net, "stem", "gate")).values():
        assert score.mean() == pytest.approx(1)


TOY = """
from prune.criteria.criterion import Criterion

def last_first(request):
    import torch
    return {layer: torch.arange(1.0, 1 + len(request.weight(layer))) for layer in request.layers}

LAST = Criterion("last", "the last channels stay", "weights", last_first)
"""


def test_a_criterion_is_one_file_and_one_line(
    small_net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_criterion.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    CRITERIA.register("last", "my_criterion:LAST")
    try:
        result = run(small_net, "last")
    finally:
        CRITERIA.unregister("last")
    assert {tuple(result.kept[name].tolist()) for name in WIDTHS} == {(3, 4, 5, 6, 7)}


def test_a_criterion_of_ones_own_needs_no_registration(small_net: nn.Module) -> None:
    def brightest(request: ScoreRequest) -> dict[str, Tensor]:
        assert request.data is not None
        images = torch.cat(list(request.data.batches))
        return {layer: images.mean() + torch.arange(8.0) % 3 for layer in request.layers}

    result = run(small_net, Criterion("brightest", "a test's own", "images", brightest))
    assert result.kept["stem"].tolist() == [1, 2, 4, 5, 7]


def test_an_unknown_criterion_is_refused_with_the_nearest_name(small_net: nn.Module) -> None:
    with pytest.raises(PruneError, match=r"unknown criterion 'taylr': did you mean 'taylor'\? kn"):
        run(small_net, "taylr")


@pytest.mark.parametrize(
    ("criterion", "data", "words"),
    [
        ("reconstruction", None, "criterion 'reconstruction' is measured on images, and none were"),
        ("reconstruction", ScoringData([]), "and none were given; pass data=ScoringData"),
        ("taylor", None, "criterion 'taylor' is measured on images, and none were given"),
        ("taylor", ScoringData([torch.zeros(2, 3, 8, 8)]), "'taylor' needs a loss and the class"),
        (
            "taylor",
            ScoringData([torch.zeros(2, 3, 8, 8)], [torch.zeros(3)], lambda *_: torch.zeros(())),
            r"with labels \(N,\) for every batch",
        ),
    ],
)
def test_missing_data_is_named(
    small_net: nn.Module, criterion: str, data: ScoringData | None, words: str
) -> None:
    with pytest.raises(PruneError, match=words):
        score_channels(CRITERIA.load(criterion), request(small_net, "stem", data=data))


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (
            torch.rand(7),
            r"'mine' returned scores of shape \(7,\) at layer 'stem'; .* its 8 channels",
        ),
        *(
            (
                torch.tensor([odd, *[1.0] * 7]),
                "'mine' returned scores that are not finite at layer 'stem'; .* weights",
            )
            for odd in (torch.nan, torch.inf, -torch.inf)
        ),
        (torch.ones(8).numpy(), "'mine' returned ndarray at layer 'stem'; expected a float tensor"),
        ([1.0] * 8, "'mine' returned list at layer 'stem'; expected a float tensor with one score"),
        (torch.arange(8), "'mine' returned a tensor of torch.int64 at layer 'stem'; expected a fl"),
        (-torch.ones(8), "'mine' returned scores with a negative mean at layer 'stem'; expected"),
    ],
)
def test_scores_of_another_form_are_refused(small_net: nn.Module, score: Any, words: str) -> None:
    criterion = Criterion("mine", "a test's own", "weights", lambda _: {"stem": score})
    with pytest.raises(PruneError, match=words):
        score_channels(criterion, request(small_net, "stem"))


def test_negative_scores_of_a_criterion_that_is_not_relative(small_net: nn.Module) -> None:
    score = -torch.ones(8)
    criterion = Criterion("mine", "a test's own", "weights", lambda _: {"stem": score}, False)
    assert torch.equal(score_channels(criterion, request(small_net, "stem"))["stem"], score)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "'mine' returned no scores for layer 'stem'; expected .* forward pass reach it"),
        ([torch.ones(8)], r"'mine' returned list; expected a dict with the scores \(C,\) by layer"),
        (None, "'mine' returned NoneType; expected a dict"),
    ],
)
def test_results_of_another_form_are_refused(small_net: nn.Module, found: Any, words: str) -> None:
    criterion = Criterion("mine", "a test's own", "weights", lambda _: found)
    with pytest.raises(PruneError, match=words):
        score_channels(criterion, request(small_net, "stem"))


def test_what_is_no_criterion_is_refused(small_net: nn.Module) -> None:
    def mine(_request: ScoreRequest) -> dict[str, Tensor]:
        return {}

    no_criterion: Any = mine
    with pytest.raises(PruneError, match=r"criterion 'mine' is no Criterion; pass a name, or Crit"):
        run(small_net, no_criterion)
    with pytest.raises(PruneError, match=r"criterion 'mine' is no Criterion"):
        prune(small_net, torch.zeros(1, 3, 8, 8), channels=0.5, criterion=no_criterion)


def test_unknown_needs_are_refused() -> None:
    needs: Any = "pictures"
    with pytest.raises(PruneError, match="'mine': needs='pictures'; expected one of 'weights', 'i"):
        Criterion("mine", "a test's own", needs, lambda _: {})


def test_declarations_are_read_without_torch() -> None:
    program = (
        "import sys; from prune.criteria import CRITERIA; print(*dict(CRITERIA.items())); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    known = {"l2", "l1", "fpgm", "taylor", "batchnorm_scale", "reconstruction", "random"}
    assert known <= set(done.stdout.split())  # and those of installed packages
