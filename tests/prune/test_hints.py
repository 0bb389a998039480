"""Hints compare a stage with the teacher's at the channels that are left."""

import copy

import pytest
import torch
from torch import nn

from prune.hints import hint_channels, hint_errors
from prune.layer_widths import layer_widths
from prune.plans import linear_plan
from prune.surgery import cut
from reid_edge.models import build_model
from tests.networks import SHORT_OSNET_X0_5, SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium


def test_the_stages_of_osnet() -> None:
    torch.manual_seed(0)
    full = build_model(SHORT_OSNET_X0_5).eval()
    (widths,) = linear_plan(layer_widths(full), layer_widths(build_model(SHORT_OSNET_X0_25)), 1)
    example = torch.randn(2, 3, 64, 32)
    result = cut(full, widths, example=example, check_input=example)
    hints = hint_channels(result.model, example, result.kept)
    assert {name: len(kept) for name, kept in hints.items()} == {
        "conv1": 16, "conv2": 64, "conv3": 96, "conv4": 128, "conv5": 128,
    }  # fmt: skip
    # What the stem still has is, before anything is tuned, what the teacher has there.
    assert torch.allclose(
        result.model.get_submodule("conv1")(example),
        full.get_submodule("conv1")(example)[:, hints["conv1"]],
        atol=1e-6,
    )


@torch.no_grad()
def test_errors_are_shares_of_the_full_width_energy_at_the_kept_channels() -> None:
    torch.manual_seed(0)
    full = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 1))
    compact, kept = copy.deepcopy(full), torch.tensor([1, 3])
    compact[0].weight = nn.Parameter(
        full[0].weight[kept] * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    )
    compact[1].weight = nn.Parameter(full[1].weight[:, kept])
    images = torch.randn(5, 3, 4, 4)
    energy = full[0](images)[:, kept].pow(2).sum((0, 2, 3))
    found = hint_errors(compact, full, {"0": kept}, images)
    assert found == {"0": pytest.approx(float(0.25 * energy[1] / energy.sum()), rel=1e-5)}
