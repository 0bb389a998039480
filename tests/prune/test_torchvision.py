"""Networks of torchvision's at 0.6 of their operations, or refused by the layer's name."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from prune.budgets import uniform
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.surgery import Cut, cut
from prune.width_options import width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError

SHARE = 0.6

pytestmark = pytest.mark.slow


def build(name: str, randomise: Callable[[nn.Module], None]) -> nn.Module:
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model: nn.Module = torchvision.models.get_model(name, num_classes=10, **options)
    randomise(model)
    return model.eval()


def run_cut(model: nn.Module, size: int) -> Cut:
    images = torch.rand(4, 3, size, size)
    example = images[:2]
    groups = find_groups(model, example)
    free = width_options(model, example, cost_example=example[:1], groups=groups)
    limit = SHARE * model_cost(model, example[:1]).macs
    widths = uniform(free, limit, lambda cost: cost.macs)
    return cut(model, widths, example=example, check_input=images, groups=groups)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 96), ("vgg11_bn", 32), ("squeezenet1_1", 64), ("googlenet", 64),
        ("resnet34", 32), ("mnasnet0_5", 32), ("efficientnet_b0", 64),
    ],
)  # fmt: skip
def test_what_is_cut(
    name: str, size: int, randomise_normalisation: Callable[[nn.Module], None]
) -> None:
    model = build(name, randomise_normalisation)
    result = run_cut(model, size)
    image = torch.zeros(1, 3, size, size)
    assert result.difference < 1e-4
    assert 0.55 < model_cost(result.model, image).macs / model_cost(model, image).macs <= SHARE
    fits = reconstruct(result.model, model, result.kept, torch.rand(16, 3, size, size))
    assert all(fit.after <= fit.before for fit in fits.values())


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("regnet_y_400mf", 32, "'trunk_output.*' is a convolution of 6 groups that is not depthw"),
        ("shufflenet_v2_x0_5", 32, "'chunk' does not treat channels one by one, so the channels"),
        ("densenet121", 32, "'features.*' does not normalise the channels of one layer .*, so the"),
        ("convnext_tiny", 64, "'features.*' is .*, so the channels of 'features.*' cannot be cut"),
        ("efficientnet_b0", 32, "the example is so small that NNI takes a channel of a map of one"),
    ],
)
def test_what_is_refused(
    name: str, size: int, words: str, randomise_normalisation: Callable[[nn.Module], None]
) -> None:
    with pytest.raises(PruneError, match=words):
        run_cut(build(name, randomise_normalisation), size)
