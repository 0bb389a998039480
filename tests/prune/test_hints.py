"""Hints compare a stage with the teacher's at the channels that are left."""

import torch

from prune.cut import cut
from prune.hints import hint_channels
from prune.layers import layer_widths
from prune.widths import linear_plan
from reid.models import build_model


def test_the_stages_of_osnet() -> None:
    torch.manual_seed(0)
    full = build_model("osnet_x0_5").eval()
    (widths,) = linear_plan(layer_widths(full), layer_widths(build_model("osnet_x0_25")), 1)
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
