"""Sizes and costs, against those that were published."""

import pytest
import torch
from torch import nn

from reid_edge.core.errors import ModelError
from reid_edge.models import Architecture, build_model
from reid_edge.models.complexity import measure_complexity
from reid_edge.models.shapes import build_shapes


@pytest.mark.parametrize(
    ("name", "parameters", "millions"),
    [
        ("osnet_x1_0", 2_169_508, 978.9),
        ("osnet_x0_75", 1_285_754, 571.8),
        ("osnet_x0_5", 630_034, 272.9),
        ("osnet_x0_25", 201_864, 82.3),
        ("osnet_ibn_x1_0", 2_170_532, 978.9),
    ],
)
def test_what_torchreid_publishes(name: str, parameters: int, millions: float) -> None:
    found = measure_complexity(name, 256, 128)
    assert found.parameters == parameters
    assert round(found.macs / 1e6, 1) == millions
    assert found.embedding_dim == 512


def test_counting_by_hand() -> None:
    def build(num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 6, (3, 1), padding=(1, 0), groups=3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        )

    found = measure_complexity(Architecture("mine", "mine", "a sequence", build), 5, 4)
    # Each of 6 x 5 x 4 values takes one channel and three pixels.
    assert found.macs == 6 * 5 * 4 * 3 + 6 * 4
    assert found.parameters == 6 * 3 + 6 + 6 * 4 + 4
    assert found.embedding_dim == 4


def test_inputs_and_names_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="an input of 0 x 128 has no pixels"):
        measure_complexity("osnet_x0_25", 0, 128)
    with pytest.raises(ModelError, match="osnet_x0_25 cannot take an input of 4 x 4"):
        measure_complexity("osnet_x0_25", 4, 4)
    # Instance normalisation has an error of its own for a single pixel.
    with pytest.raises(ModelError, match="osnet_ain_x0_5 cannot take an input of 16 x 16"):
        measure_complexity("osnet_ain_x0_5", 16, 16)
    with pytest.raises(ModelError, match="unknown architecture 'osnet'"):
        measure_complexity("osnet", 256, 128)


def test_weights_are_not_drawn() -> None:
    state = torch.random.get_rng_state()
    model = build_shapes("resnet18_x0_5")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in build_model("resnet18_x0_5").state_dict().items()
    }
