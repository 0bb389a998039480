"""Whatever the plan, every cut lands at its widths and computes what the masks promised."""

import re
from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from prune.equivalence import TOLERANCE
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plans import linear_plan
from prune.surgery import cut
from reid_edge.models import ARCHITECTURES, build_model
from reid_edge.models.architecture import Architecture
from tests.networks import SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium

OSNETS = [name for name in ARCHITECTURES if name.startswith("osnet")]
NOT_CUT = ("fc.0", "embedding.0", "classifier", "head")
SCALED = re.compile(r"(.+)_x(\d_\d+)(|_bnneck)")
EXAMPLE = (2, 3, 32, 32)

Groups = Sequence[tuple[str, ...]]
Draw = Callable[[st.SearchStrategy[int]], int]


def pairs() -> list[tuple[str, str]]:
    """Return every OSNet with every narrower form of it."""
    scaled = [(name, match) for name in OSNETS if (match := SCALED.fullmatch(name))]
    return [
        (source, target)
        for source, one in scaled
        for target, other in scaled
        if one.group(1, 3) == other.group(1, 3) and other[2] < one[2]
    ]


PAIRS = pairs()


def cut_to(model: nn.Module, plan: list[dict[str, int]], groups: Groups) -> nn.Module:
    """Take all cuts of a plan, checking each."""
    generator = torch.Generator().manual_seed(0)
    for widths in plan:
        images = torch.randn(EXAMPLE, generator=generator)
        result = cut(model, widths, example=images, check_input=images, groups=list(groups))
        assert result.difference <= TOLERANCE
        assert layer_widths(result.model) == widths
        model = result.model
    return model


def draw_target(draw: Draw, model: nn.Module, groups: Groups) -> dict[str, int]:
    """Draw a width for every group and for every layer of its own."""
    target = layer_widths(model)
    grouped = {name for members in groups for name in members}
    free = [(name,) for name in target if name not in grouped]
    for members in [*groups, *free]:
        if members[0] not in NOT_CUT:
            width = draw(st.integers(1, target[members[0]]))
            target |= dict.fromkeys(members, width)
    return target


@cache
def stock_widths(name: str) -> dict[str, int]:
    return layer_widths(build_model(name))


@pytest.mark.parametrize("iterations", range(1, 9))
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_plans_of_stock_targets(source: str, target: str, iterations: int) -> None:
    before, wanted = stock_widths(source), stock_widths(target)
    plan = linear_plan(before, wanted, iterations)
    assert len(plan) == iterations
    assert plan[-1] == wanted
    for earlier, later in zip([before, *plan], plan, strict=False):
        assert all(1 <= later[name] <= earlier[name] for name in before)


@pytest.fixture
def small_groups(small_net: nn.Module) -> Groups:
    return find_groups(small_net, torch.zeros(EXAMPLE))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_random_plans_of_a_small_network(
    small_net: nn.Module,
    small_groups: Groups,
    randomise_normalisation: Callable[[nn.Module], None],
    data: st.DataObject,
) -> None:
    randomise_normalisation(small_net)
    groups = small_groups
    target = draw_target(data.draw, small_net, groups)
    iterations = data.draw(st.integers(1, 8))
    cut_to(small_net, linear_plan(layer_widths(small_net), target, iterations), groups)


def random_osnet_plan(
    draw: Draw,
    name: str | Architecture,
    randomise_normalisation: Callable[[nn.Module], None],
    iterations: int,
) -> None:
    torch.manual_seed(0)
    model = build_model(name, embedding_dim=32).eval()
    randomise_normalisation(model)
    groups = find_groups(model, torch.zeros(EXAMPLE))
    target = draw_target(draw, model, groups)
    cut_to(model, linear_plan(layer_widths(model), target, iterations), groups)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_random_plans_of_an_osnet(
    randomise_normalisation: Callable[[nn.Module], None], data: st.DataObject
) -> None:
    random_osnet_plan(data.draw, SHORT_OSNET_X0_25, randomise_normalisation, iterations=2)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(OSNETS), iterations=st.integers(1, 8))
def test_random_plans_of_every_osnet(
    randomise_normalisation: Callable[[nn.Module], None],
    data: st.DataObject,
    name: str,
    iterations: int,
) -> None:
    random_osnet_plan(data.draw, name, randomise_normalisation, iterations)


@pytest.mark.slow
@pytest.mark.parametrize("iterations", range(1, 9))
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_cuts_land_at_stock_targets(
    source: str,
    target: str,
    iterations: int,
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    model, stock = build_model(source), build_model(target).eval()
    randomise_normalisation(model.eval())
    groups = find_groups(model, torch.zeros(EXAMPLE))
    plan = linear_plan(layer_widths(model), layer_widths(stock), iterations)
    compact = cut_to(model, plan, groups)
    stock.load_state_dict(compact.state_dict(), strict=True)
