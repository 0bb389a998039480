import pytest
import torch
from torchvision.models import mobilenet_v2

from prune.costs import CostModel, output_layers
from prune.layer_widths import layer_widths
from reid_edge.core.cost import model_cost
from reid_edge.models.shapes import build_shapes

pytestmark = pytest.mark.medium

EXAMPLE = torch.zeros(1, 3, 64, 32)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("osnet_x1_0", "osnet_x0_25"),
        ("osnet_x1_0", "osnet_x0_75"),
        ("osnet_ain_x1_0", "osnet_ain_x0_5"),
        ("osnet_ibn_x1_0", "osnet_ibn_x1_0"),
        ("resnet18", "resnet18_x0_5"),
        ("resnet18_bnneck", "resnet18_bnneck"),
    ],
)
def test_costs_are_those_of_the_built_model(source: str, target: str) -> None:
    narrow = build_shapes(target, num_classes=5)
    costs = CostModel(build_shapes(source, num_classes=5).eval(), EXAMPLE)
    assert costs.cost(layer_widths(narrow)) == model_cost(narrow, EXAMPLE)


def test_costs_of_a_network_that_is_not_of_this_project() -> None:
    model = mobilenet_v2(weights=None).eval()
    costs = CostModel(model, EXAMPLE)
    assert costs.cost({}) == model_cost(model, EXAMPLE)
    narrow = mobilenet_v2(weights=None, width_mult=0.5).eval()
    widths = {**layer_widths(narrow), "classifier.1": 1000}
    # Its last convolution stays at 1280 channels, as the widths say.
    assert costs.cost(widths) == model_cost(narrow, EXAMPLE)


def test_the_embedding_is_the_output() -> None:
    assert output_layers(build_shapes("osnet_x0_25", num_classes=5).eval()) == {"fc.0"}
