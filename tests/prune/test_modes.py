"""Looking at a model leaves every module of it in its own mode, also when looking fails."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prune.costs import CostModel
from prune.hints import hint_channels, hint_errors
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.reconstruction_scores import reconstruction_scores
from prune.surgery import cut
from prune.tracing import trace
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError

IMAGES = torch.randn(4, 3, 8, 8)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def cut_and_reconstruct(model: nn.Module) -> None:
    plan = dict.fromkeys(("stem", "pointwise", "depthwise", "gate"), 5)
    result = cut(model, plan, example=IMAGES[:2], check_input=IMAGES)
    reconstruct(result.model, model, result.kept, IMAGES)
    hint_errors(result.model, model, {}, IMAGES)


@pytest.mark.parametrize(
    "look",
    [
        trace,
        lambda model: model_cost(model, IMAGES[:1]),
        lambda model: CostModel(model, IMAGES[:1]),
        lambda model: find_groups(model, IMAGES[:2]),
        lambda model: reconstruction_scores(model, IMAGES, widths={"stem": 4}, groups=[]),
        lambda model: hint_channels(
            model, IMAGES, {n: torch.arange(w) for n, w in layer_widths(model).items()}
        ),
        cut_and_reconstruct,
    ],
)
def test_a_frozen_normalisation_stays_frozen(
    small_net: nn.Module, look: Callable[[nn.Module], object]
) -> None:
    small_net.train()
    small_net.get_submodule("stem_norm").eval()
    before = modes(small_net)
    look(small_net)
    assert modes(small_net) == before


def test_modes_are_restored_when_tracing_fails() -> None:
    class Never(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(f"no image is good enough: {x}")

    model = Never().train()
    for look in (trace, lambda model: find_groups(model, IMAGES[:2])):
        with pytest.raises(PruneError, match=r"^Never cannot be traced .*no image is good"):
            look(model)
        assert modes(model) == [True, True]
