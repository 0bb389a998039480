"""One call does what the single steps do, and refuses what does not fit together."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune.budgets import by_loss, removal_losses
from prune.criteria import CRITERIA
from prune.criteria.criterion import Criterion, ScoreRequest, ScoringData
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.pruning import prune
from prune.recalibrate import rebase
from prune.reconstruct import reconstruct
from prune.surgery import cut
from prune.width_options import width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError

pytestmark = pytest.mark.medium

IMAGES = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(2))
CUT = ("stem", "pointwise", "depthwise", "gate")


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(images), labels)


def test_it_is_what_the_steps_are(small_net: nn.Module) -> None:
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    small_net.train()
    result = prune(small_net, IMAGES[:1], macs=0.6, criterion="reconstruction", images=IMAGES,
                   distribution="by_loss", seed=4)  # fmt: skip
    assert small_net.training
    assert all(torch.equal(before[name], value) for name, value in small_net.state_dict().items())

    small_net.eval()
    groups, full = find_groups(small_net, IMAGES[:2]), model_cost(small_net, IMAGES[:1])
    options = width_options(small_net, IMAGES[:2], cost_example=IMAGES[:1], groups=groups)
    data, criterion = ScoringData([IMAGES]), CRITERIA.load("reconstruction")
    losses = removal_losses(options, small_net, criterion, data)
    widths = by_loss(options, losses, 0.6 * full.macs, lambda cost: cost.macs)
    steps = cut(small_net, widths, example=IMAGES[:2], check_input=IMAGES[:4], groups=groups,
                criterion="reconstruction", data=data)  # fmt: skip
    reconstruct(steps.model, small_net, steps.kept, IMAGES)
    rebase(steps.model, [IMAGES])

    assert result.widths == widths
    assert result.kept.keys() == steps.kept.keys()
    wanted, found = steps.model.state_dict(), result.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert result.report.macs_before == full.macs
    assert result.report.macs_after <= 0.6 * full.macs


@pytest.mark.parametrize(
    ("target", "width"),
    [({"channels": 0.5}, 4), ({"channels": 0.5, "multiple": 3}, 3), ({"macs": 1.0}, 8)],
)
def test_targets(small_net: nn.Module, target: dict[str, Any], width: int) -> None:
    assert prune(small_net, IMAGES[:1], **target).widths == dict.fromkeys(CUT, width) | {"head": 5}


def test_a_limit_is_a_share_or_a_number(small_net: nn.Module) -> None:
    full = model_cost(small_net, IMAGES[:1]).parameters
    share = prune(small_net, IMAGES[:1], parameters=0.5)
    number = prune(small_net, IMAGES[:1], parameters=0.5 * full)
    assert share.widths == number.widths
    assert share.report.parameters_after <= 0.5 * full


def test_its_widths_make_an_untrained_model_that_loads_the_weights(small_net: nn.Module) -> None:
    result = prune(small_net, IMAGES[:1], channels=0.5, images=IMAGES)
    torch.manual_seed(9)
    untrained = type(small_net)()
    loaded = prune(untrained, IMAGES[:1], widths=result.widths).model
    loaded.load_state_dict(result.model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), result.model(IMAGES))


def test_without_images_the_weights_stay(small_net: nn.Module) -> None:
    result = prune(small_net, IMAGES[:1], channels=0.5)
    kept = result.kept["stem"]
    stem = small_net.get_submodule("stem").weight
    assert torch.equal(result.model.get_submodule("stem").weight, stem[kept])
    assert all(layer.error_after is None for layer in result.report.layers)


@pytest.mark.parametrize("name", list(CRITERIA))
def test_every_criterion_takes_the_same_arguments(small_net: nn.Module, name: str) -> None:
    result = prune(small_net, IMAGES[:1], channels=0.5, criterion=name, images=IMAGES,
                   labels=torch.arange(12) % 5, loss=loss_of)  # fmt: skip
    assert layer_widths(result.model) == result.widths


def test_a_criterion_of_ones_own_is_an_argument(small_net: nn.Module) -> None:
    def first(request: ScoreRequest) -> dict[str, Tensor]:
        return {name: torch.arange(8.0, 0, -1) for name in request.layers}

    criterion = Criterion("first", "the first channels stay", "weights", first)
    result = prune(small_net, IMAGES[:1], channels=0.5, criterion=criterion)
    assert result.kept["stem"].tolist() == [0, 1, 2, 3]


def test_it_prints_its_layers_and_totals(small_net: nn.Module) -> None:
    text = str(prune(small_net, IMAGES[:1], channels=0.5, images=IMAGES))
    for name in (*CUT, "head", "whole model"):
        assert name in text
    assert "\nparameters 501 -> " in text
    assert "\nmasked against compact " in text
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, r"^prune\(\) takes one of macs, parameters, .* and was given none of them$"),
        ({"macs": 0.5, "channels": 0.5}, r"was given macs and channels$"),
        ({"channels": 1.5}, r"^channels=1\.5: expected a share above 0 and up to 1, such as 0\.5$"),
        ({"channels": 0}, r"^channels=0: expected a share"),
        ({"macs": 0}, r"^macs=0: expected a share up to 1, such as 0\.4, or a number above 1$"),
        ({"macs": 0.001}, r"cannot be met: the narrowest model"),
        (
            {"channels": 0.5, "distribution": "by_loss"},
            r"^distribution='by_loss' .* channels",
        ),
        ({"widths": {"stem": 4}, "untouched": ["gate"]}, r"^untouched and multiple have no effect"),
        ({"widths": {"stem": 4}}, r"^'depthwise' and 'gate' share|share their channels"),
        ({"widths": {"steam": 4}}, r"'steam'.*did you mean 'stem'"),
        ({"channels": 0.5, "multiple": 0}, r"^multiple=0: expected a whole number from 1$"),
        (
            {"channels": 0.5, "untouched": ["gates"]},
            r"^prune\(\)\.untouched: 'gates' fits no",
        ),
        ({"channels": 0.5, "criterion": "l3"}, r"^unknown criterion 'l3': did you mean 'l"),
        ({"channels": 0.5, "criterion": "reconstruction"}, r"is measured on images: pass images="),
        (
            {"channels": 0.5, "criterion": "taylor", "images": IMAGES},
            r"^criterion 'taylor' needs the class of every image and a loss: pass labels=\(12,\)",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    small_net: nn.Module, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(PruneError, match=words):
        prune(small_net, IMAGES[:1], **arguments)
