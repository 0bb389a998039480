"""Questions about graphs."""

import pytest
import torch
from torch import Tensor, nn

from prune.errors import PruneError
from prune.graph import normalised_layers, trace
from reid.models import build_model


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_forward_pass_that_depends_on_data_is_refused() -> None:
    with pytest.raises(PruneError, match=r"Branching cannot be traced by torch.fx"):
        trace(Branching())


def test_normalisation_belongs_to_the_layer_before_it() -> None:
    owners = normalised_layers(build_model("osnet_ibn_x1_0"))
    assert owners["conv1.bn"] == "conv1.conv"
    assert owners["conv2.0.conv2b.1.bn"] == "conv2.0.conv2b.1.conv2"
    assert owners["conv2.0.IN"] in ("conv2.0.conv3.conv", "conv2.0.downsample.conv")
    assert owners["fc.1"] == "fc.0"


def test_tracing_leaves_the_mode() -> None:
    model = build_model("osnet_x0_25").train()
    trace(model)
    assert model.training
    assert torch.is_grad_enabled()
