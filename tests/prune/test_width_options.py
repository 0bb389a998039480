from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from prune.budgets import by_loss, energy_losses, uniform
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.width_options import WidthOptions, shares_by_pattern, width_options
from reid_edge.core.cost import ModelCost, model_cost
from reid_edge.core.errors import PruneError
from reid_edge.models.osnet import CHANNELS_X0_5, CHANNELS_X1_0, OSNet

pytestmark = pytest.mark.medium

SMALL = torch.zeros(2, 3, 64, 32)
EXAMPLE = torch.zeros(1, 3, 64, 32)
# Two blocks share their channels; the others would only take time.
BLOCKS = (2, 1, 1)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return OSNet(CHANNELS_X1_0, num_classes=5, blocks=BLOCKS).eval()


@pytest.fixture(scope="module")
def groups(model: nn.Module) -> list[tuple[str, ...]]:
    return find_groups(model, SMALL)


@pytest.fixture(scope="module")
def free(model: nn.Module) -> WidthOptions:
    return width_options(model, SMALL, cost_example=EXAMPLE)


def macs(cost: ModelCost) -> float:
    return cost.macs


def test_the_output_and_the_classifier_are_left_alone(free: WidthOptions) -> None:
    names = {name for unit in free.units for name in unit.layers}
    assert "fc.0" not in names
    assert "classifier" not in names
    assert "conv5.conv" in names


def test_every_layer_that_may_be_cut_is_in_one_unit(free: WidthOptions, model: nn.Module) -> None:
    names = [name for unit in free.units for name in unit.layers]
    assert len(names) == len(set(names))
    assert set(names) == set(layer_widths(model)) - {"fc.0", "classifier"}


def test_half_of_everything_is_the_stock_architecture(free: WidthOptions, model: nn.Module) -> None:
    narrow = OSNet(CHANNELS_X0_5, num_classes=5, blocks=BLOCKS)
    assert free.widths(dict.fromkeys(free.units, 0.5)) == layer_widths(narrow)


def test_the_last_pattern_that_fits_counts(free: WidthOptions) -> None:
    shares = shares_by_pattern(free, 0.5, {"conv2.*": 0.75, "conv2.0.conv1.conv": 0.25})
    widths = free.widths(shares)
    assert widths["conv2.0.conv1.conv"] == 16
    assert widths["conv2.1.conv1.conv"] == 48
    assert widths["conv3.0.conv1.conv"] == 48  # of 96, by the ratio for the rest


def test_layers_that_share_channels_cannot_be_given_two_ratios(free: WidthOptions) -> None:
    with pytest.raises(PruneError, match=r"prune.ratios: .* share their channels"):
        shares_by_pattern(free, 0.5, {"conv2.0.conv3.conv": 0.75, "conv2.1.conv3.conv": 0.25})


def test_a_pattern_that_fits_nothing_is_refused(
    free: WidthOptions, model: nn.Module, groups: list[tuple[str, ...]]
) -> None:
    with pytest.raises(PruneError, match=r"prune.ratios: 'conv9\.\*' fits no layer"):
        shares_by_pattern(free, 0.5, {"conv9.*": 0.5})
    with pytest.raises(PruneError, match=r"prune.untouched: 'conv5.con' fits .* 'conv5.conv'"):
        width_options(model, SMALL, cost_example=EXAMPLE, untouched=["conv5.con"], groups=groups)
    with pytest.raises(PruneError, match="'conv1' fits no layer that can be cut: the model has no"):
        width_options(nn.ReLU(), SMALL, cost_example=EXAMPLE, untouched=["conv1"], groups=[])


def test_untouched_layers_keep_their_channels_and_so_do_those_tied_to_them(
    model: nn.Module, groups: list[tuple[str, ...]]
) -> None:
    free = width_options(
        model, SMALL, cost_example=EXAMPLE, untouched=["conv2.0.conv3.conv"], groups=groups
    )
    widths = free.widths(dict.fromkeys(free.units, 0.5))
    full = layer_widths(model)
    for tied in ("conv2.0.conv3.conv", "conv2.1.conv3.conv", "conv2.0.downsample.conv"):
        assert widths[tied] == full[tied]
    assert widths["conv5.conv"] == full["conv5.conv"] // 2


def test_nothing_left_to_cut_is_refused(model: nn.Module, groups: list[tuple[str, ...]]) -> None:
    with pytest.raises(PruneError, match="nothing is left to cut"):
        width_options(model, SMALL, cost_example=EXAMPLE, untouched=["*"], groups=groups)


@pytest.mark.parametrize("multiple", [1, 8, 16])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.61, 1.0])
def test_widths_are_multiples_where_the_full_width_allows(
    free: WidthOptions, multiple: int, share: float
) -> None:
    rounding = replace(free, multiple=multiple)
    widths = rounding.widths(dict.fromkeys(free.units, share))
    for unit in free.units:
        width = widths[unit.layers[0]]
        assert width >= 1
        assert width % min(multiple, unit.width) == 0 or width == unit.width


def scores(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: model.get_submodule(name).weight.detach().flatten(1).norm(dim=1)  # type: ignore[operator]
        for name in layer_widths(model)
    }


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8, 1.0])
def test_budgets_are_met_and_nearly_used_up(
    free: WidthOptions, model: nn.Module, share: float
) -> None:
    limit = share * model_cost(model, EXAMPLE).macs
    for widths in (
        uniform(free, limit, macs),
        by_loss(free, energy_losses(free, scores(model)), limit, macs),
    ):
        cost = free.costs.cost(widths).macs
        assert 0.93 * limit <= cost <= limit
        for unit in free.units:
            assert len({widths[name] for name in unit.layers}) == 1


def test_a_budget_out_of_reach_is_refused(free: WidthOptions) -> None:
    with pytest.raises(PruneError, match="cannot be met: the narrowest model"):
        uniform(free, 10, macs)


def test_unimportant_channels_go_first(free: WidthOptions, model: nn.Module) -> None:
    found = scores(model)
    for name in found:
        found[name] = torch.ones_like(found[name])
    useless = next(unit for unit in free.units if len(unit.layers) == 1)
    found[useless.layers[0]] = torch.cat(
        [torch.ones(useless.width // 4), torch.full((useless.width - useless.width // 4,), 1e-4)]
    )
    limit = 0.95 * free.costs.cost({useless.layers[0]: useless.width // 4}).macs
    widths = by_loss(free, energy_losses(free, found), limit, macs)
    assert widths[useless.layers[0]] <= useless.width // 4 + 1
