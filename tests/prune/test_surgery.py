"""What a cut leaves is what its masks promised, and exactly what was planned."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prune.equivalence import TOLERANCE, check_widths, masked_difference
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plans import linear_plan
from prune.surgery import Cut, compose_kept, cut
from reid_edge.core.errors import PruneError
from reid_edge.models import build_model
from reid_edge.models.architecture import Architecture
from tests.networks import (
    SHORT_OSNET_IBN_X0_5,
    SHORT_OSNET_IBN_X0_25,
    SHORT_OSNET_X0_5,
    SHORT_OSNET_X0_25,
)

pytestmark = pytest.mark.medium

EXAMPLE = (2, 3, 64, 32)


def run_cut(
    model: nn.Module, widths: dict[str, int], groups: list[tuple[str, ...]] | None = None
) -> Cut:
    check_input = torch.randn(4, 3, 64, 32)
    return cut(model, widths, example=torch.randn(EXAMPLE), check_input=check_input, groups=groups)


@pytest.mark.parametrize(
    ("source", "target", "found_again"),
    [
        (SHORT_OSNET_X0_5, SHORT_OSNET_X0_25, False),
        (SHORT_OSNET_IBN_X0_5, SHORT_OSNET_IBN_X0_25, False),
        (SHORT_OSNET_X0_5, SHORT_OSNET_X0_25, True),
    ],
)
def test_three_cuts_end_at_a_stock_architecture(
    source: Architecture,
    target: Architecture,
    found_again: bool,
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    model, stock = build_model(source, num_classes=7), build_model(target, num_classes=7)
    randomise_normalisation(model)
    groups = None  # a run finds them once and gives them to every cut
    for widths in linear_plan(layer_widths(model), layer_widths(stock), 3):
        result = run_cut(model, widths, groups)
        groups = None if found_again else result.groups
        assert result.difference <= TOLERANCE
        assert layer_widths(result.model) == widths
        model = result.model
    stock.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(3, 3, 128, 64)
    assert torch.equal(stock.eval()(images), model.eval()(images))


def naive_group_scores(model: nn.Module, members: tuple[str, ...]) -> Tensor:
    total = torch.zeros(())
    for name in members:
        norms = torch.stack([row.norm() for row in model.get_submodule(name).weight])
        total = total + norms / norms.mean()
    return total / len(members)


def test_the_weakest_channels_of_a_group_go(small_net: nn.Module) -> None:
    source = layer_widths(small_net)
    widths = {name: 5 if width == 8 else width for name, width in source.items()}
    result = run_cut(small_net, widths)
    grouped = {name for members in result.groups for name in members}
    for members in [*result.groups, *((name,) for name in source if name not in grouped)]:
        if members == ("head",):
            continue
        scores = naive_group_scores(small_net, members)
        strongest = scores.topk(5).indices.sort().values
        for name in members:
            assert torch.equal(result.kept[name], strongest), name


def test_masked_relu_of_the_shift_does_not_leak(small_net: nn.Module) -> None:
    # The trap: a masked channel's BatchNorm still sends relu(beta) on.
    with torch.no_grad():
        small_net.get_submodule("stem_norm").bias.fill_(3.0)
    result = run_cut(small_net, {"stem": 4, "pointwise": 4, "depthwise": 4, "gate": 4})
    assert result.difference <= TOLERANCE


def test_the_model_that_is_cut_stays_as_it_was(small_net: nn.Module) -> None:
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    run_cut(small_net, {"stem": 4, "pointwise": 4, "depthwise": 4, "gate": 4})
    after = small_net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_learned_before_the_cut_learns(small_net: nn.Module) -> None:
    frozen, *_ = (name for name, _ in small_net.named_parameters())
    small_net.get_parameter(frozen).requires_grad_(False)
    source = layer_widths(small_net)
    result = run_cut(small_net, {n: 5 if width == 8 else width for n, width in source.items()})
    learning = {name: value.requires_grad for name, value in result.model.named_parameters()}
    assert learning == {name: name != frozen for name, _ in small_net.named_parameters()}


def test_a_cut_does_not_touch_the_random_state(small_net: nn.Module) -> None:
    torch.manual_seed(5)
    example, check_input = torch.randn(EXAMPLE), torch.randn(2, 3, 32, 32)
    expected = torch.randn(3, generator=torch.Generator().set_state(torch.get_rng_state()))
    cut(small_net, {"stem": 4, "pointwise": 4, "depthwise": 4, "gate": 4},
        example=example, check_input=check_input)  # fmt: skip
    assert torch.equal(torch.randn(3), expected)


def test_two_cuts_of_the_same_model_are_the_same(small_net: nn.Module) -> None:
    widths = {"stem": 4, "pointwise": 4, "depthwise": 4, "gate": 4}
    first, second = run_cut(small_net, widths), run_cut(small_net, widths)
    assert first.groups == second.groups
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_groups_are_those_of_the_wider_model(small_net: nn.Module) -> None:
    groups = find_groups(small_net, torch.randn(EXAMPLE))
    model = small_net
    for width in (5, 2):
        widths = {"stem": width, "pointwise": width, "depthwise": width, "gate": width}
        found = run_cut(model, widths)
        given = cut(model, widths, example=torch.randn(EXAMPLE), groups=groups,
                    check_input=torch.randn(4, 3, 64, 32))  # fmt: skip
        assert given.groups == found.groups == groups
        for name, value in found.model.state_dict().items():
            assert torch.equal(value, given.model.state_dict()[name])
        model = given.model


def test_a_plan_that_splits_a_group_is_refused(small_net: nn.Module) -> None:
    with pytest.raises(PruneError, match="share their channels"):
        run_cut(small_net, layer_widths(small_net) | {"depthwise": 4})


def test_wrong_widths_are_noticed(small_net: nn.Module) -> None:
    with pytest.raises(PruneError, match="'stem' has 8 channels where 4 were planned"):
        check_widths(small_net, {"stem": 4})


def test_a_compact_model_that_differs_is_noticed(small_net: nn.Module) -> None:
    images = torch.randn(2, 3, 8, 8)
    with pytest.raises(PruneError, match="differ by"):
        masked_difference(small_net(images) * 1.01, small_net, images)


def test_kept_channels_of_two_cuts() -> None:
    first, second = {"a": torch.tensor([0, 2, 5, 6])}, {"a": torch.tensor([1, 3])}
    assert compose_kept(first, second)["a"].tolist() == [2, 6]
