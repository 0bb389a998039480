"""Proportions to widths, on the small network and from OSNet x0.5 downwards."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prune.layer_widths import layer_widths
from prune.plans import check_groups
from prune.search.space import SearchSpace, make_space
from prune.width_options import WidthOptions, width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError
from reid_edge.models.registry import build_model
from tests.networks import SHORT_OSNET_X0_5, SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium

EXAMPLE, COST_EXAMPLE = torch.zeros(2, 3, 64, 32), torch.zeros(1, 3, 64, 32)

PATTERNS = {
    "conv1": ("conv1.conv",),
    "conv2": ("conv2.?.conv3.conv", "conv2.?.downsample.conv", "conv2.?.0.conv"),
    "conv3": ("conv3.?.conv3.conv", "conv3.?.downsample.conv", "conv3.?.0.conv"),
    "conv4": ("conv4.?.conv3.conv", "conv4.?.downsample.conv"),
    "conv5": ("conv5.conv",),
    "hidden": ("conv[234].?.conv1.conv", "conv[234].?.conv2*", "conv[234].?.gate.*"),
}


@pytest.fixture(scope="module")
def half_free() -> WidthOptions:
    return width_options(build_model(SHORT_OSNET_X0_5), EXAMPLE, cost_example=COST_EXAMPLE)


@pytest.fixture(scope="module")
def quarter() -> nn.Module:
    return build_model(SHORT_OSNET_X0_25)


@pytest.fixture(scope="module")
def space(half_free: WidthOptions, quarter: nn.Module) -> SearchSpace:
    return make_space(half_free, PATTERNS, model_cost(quarter, COST_EXAMPLE).macs)


def test_equal_proportions_under_a_stock_limit_are_the_stock_widths(
    space: SearchSpace, quarter: nn.Module
) -> None:
    widths = space.widths(dict.fromkeys(PATTERNS, 0.65))
    assert widths == layer_widths(quarter)


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries({name: st.floats(0.3, 1.0) for name in PATTERNS}))
def test_every_sample_meets_the_limit_and_nearly_uses_it(
    space: SearchSpace, sample: Mapping[str, float]
) -> None:
    widths = space.widths(sample)
    macs = space.free.costs.cost(widths).macs
    assert 0.85 * space.limit < macs <= space.limit
    check_groups(widths, [unit.layers for unit in space.free.units])
    assert widths.keys() == space.free.full.keys()
    assert all(1 <= width <= space.free.full[name] for name, width in widths.items())


@settings(max_examples=10, deadline=None)
@given(st.fixed_dictionaries({name: st.floats(0.3, 1.0) for name in PATTERNS}))
def test_only_the_proportions_to_each_other_count(
    space: SearchSpace, sample: Mapping[str, float]
) -> None:
    # A power of two, so that scaling is exact.
    assert space.widths({name: value / 4 for name, value in sample.items()}) == space.widths(sample)


def test_a_greater_proportion_makes_its_layers_wider_and_the_others_narrower(
    space: SearchSpace,
) -> None:
    even = dict.fromkeys(PATTERNS, 0.5)
    plain, tilted = space.widths(even), space.widths(even | {"conv4": 1.0})
    assert tilted["conv4.0.conv3.conv"] > plain["conv4.0.conv3.conv"]
    assert tilted["conv2.0.conv3.conv"] < plain["conv2.0.conv3.conv"]
    assert tilted["fc.0"] == plain["fc.0"] == space.free.full["fc.0"]


def test_a_limit_above_the_full_width_leaves_everything(half_free: WidthOptions) -> None:
    free_for_all = make_space(half_free, PATTERNS, 10**12)
    assert free_for_all.widths(dict.fromkeys(PATTERNS, 0.3)) == dict(half_free.full)


def test_a_limit_that_cannot_be_met_is_refused(half_free: WidthOptions) -> None:
    with pytest.raises(PruneError, match=r"budget of 1,000 cannot be met: the narrowest"):
        make_space(half_free, PATTERNS, 1000).widths(dict.fromkeys(PATTERNS, 0.5))


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ({"stem": ("stemm",)}, "search variable 'stem': 'stemm' fits no layer that can be cut"),
        ({"stem": ("pointwise",), "all": ("p*",)}, "'pointwise' belongs to two search variables"),
        ({"some": ("gate",)}, "'depthwise' and 'gate' share their channels"),
        ({"head": ("head",)}, "search variable 'head': 'head' fits no layer that can be cut"),
    ],
)
def test_variables_that_cannot_be_moved_are_refused(
    small_net: nn.Module, patterns: dict[str, tuple[str, ...]], words: str
) -> None:
    free = width_options(small_net, torch.zeros(2, 3, 8, 8), cost_example=torch.zeros(1, 3, 8, 8))
    with pytest.raises(PruneError, match=words):
        make_space(free, patterns, 10_000)
