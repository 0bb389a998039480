"""Questions about graphs."""

import pytest
import torch
from torch import Tensor, nn

from prune.nni_backend import find_groups
from prune.tracing import normalised_layers, trace
from reid_edge.core.errors import PruneError
from reid_edge.models import build_model


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_forward_pass_that_depends_on_data_is_refused() -> None:
    with pytest.raises(PruneError, match=r"Branching cannot be traced by torch.fx"):
        trace(Branching())


class Checking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ValueError
        return x


class Flattening(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


@pytest.mark.parametrize("model", [Checking(), Flattening()])
def test_whatever_stops_a_trace_is_named(model: nn.Module) -> None:
    name = type(model).__name__
    with pytest.raises(
        PruneError, match=rf"^{name} cannot be traced by torch.fx \(\w+Error"
    ) as error:
        trace(model)
    assert "\n" not in str(error.value)


def test_a_second_input_is_refused_at_once_also_of_a_deep_network() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build_model("osnet_x0_25")

        def forward(self, x: Tensor, cam: Tensor) -> Tensor:
            return self.net(x * cam)  # type: ignore[no-any-return]

    for look in (trace, lambda model: find_groups(model, torch.zeros(2, 3, 64, 32))):
        with pytest.raises(PruneError, match=r"^Both needs 'cam' besides images"):
            look(Both())


def test_defaults_of_every_kind_stay() -> None:
    class Scaled(nn.Module):
        def forward(
            self,
            x: Tensor,
            scale: tuple[float, float] = (1.0, 2.0),
            shift: Tensor = torch.ones(1),  # noqa: B008
            *rest: Tensor,
            flip: bool = False,
        ) -> Tensor:
            return -x if flip else x * scale[1] + shift + len(rest)

    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(trace(Scaled())(x), x * 2.0 + 1)


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
