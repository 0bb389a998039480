"""What cannot be cut is refused before the surgery, by name."""

import pytest
import torch
from torch import Tensor, nn

from prune.costs import output_layers
from prune.layer_widths import layer_widths
from prune.supported import check_supported
from prune.surgery import cut
from prune.width_options import width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError
from reid_edge.models import build_model


class Odd(nn.Module):
    """A stem, something odd behind it, a linear head."""

    def __init__(self, odd: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.odd = odd
        self.mixer = nn.Conv2d(channels, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(self.odd(torch.relu(self.stem(x))))
        return self.head(x.mean((2, 3)))


class Scale(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


REFUSED = [
    (nn.Conv2d(8, 8, 3, groups=2), {"stem": 4}, "'odd' is a convolution of 2 groups .* of 'stem'"),
    (nn.Conv2d(8, 8, 3, groups=2), {"odd": 4}, "'odd' is a convolution of 2 groups .* of 'odd'"),
    (nn.Conv2d(8, 16, 3, groups=8), {"stem": 4}, "'odd' is a convolution of 8 groups"),
    (nn.GroupNorm(2, 8), {"stem": 4}, "'odd' is a GroupNorm, which cannot be narrowed"),
    (Scale((8, 1, 1)), {"stem": 4}, "'odd.factor' is a tensor that the model uses outside"),
    (nn.ConvTranspose2d(8, 8, 2), {"odd": 4}, "names 'odd', a ConvTranspose2d: only Conv2d and"),
    (nn.Identity(), {"head": 3}, "channels of 'head' are the model's output.* out of the plan"),
    (nn.Identity(), {"sten": 4}, "names 'sten', which is no layer .* did you mean 'stem'?"),
]


@pytest.mark.parametrize(("odd", "plan", "words"), REFUSED)
def test_refusals(odd: nn.Module, plan: dict[str, int], words: str) -> None:
    model = Odd(odd, 16 if getattr(odd, "out_channels", 8) == 16 else 8)
    with pytest.raises(PruneError, match=words) as error:
        cut(model, plan, example=torch.zeros(2, 3, 8, 8), check_input=torch.zeros(2, 3, 8, 8))
    assert "\n" not in str(error.value)


class SameConv(nn.Conv2d):
    """As in code bases of other people: not torch.nn's own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (SameConv(8, 8, 3), "'odd' is a SameConv: only torch.nn's own Conv2d and Linear"),
        (
            nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
            "'odd' is a ParametrizedConv2d: only torch.nn's own",
        ),
    ],
)
def test_layers_of_another_make_are_refused_or_left_alone(layer: nn.Module, words: str) -> None:
    model, images = Odd(layer).eval(), torch.randn(2, 3, 8, 8)
    with pytest.raises(PruneError, match=rf"^{words}.* leave the layer untouched"):
        cut(model, {"odd": 4}, example=images, check_input=images)
    free = width_options(model, images, cost_example=images[:1], untouched=["odd", "stem"])
    assert [unit.layers for unit in free.units] == [("mixer",)]
    widths = free.widths(dict.fromkeys(free.units, 0.5))
    result = cut(model, widths, example=images, check_input=images)
    planned = free.costs.cost(widths).macs
    assert planned == model_cost(result.model, images[:1]).macs


def test_a_layer_that_is_not_called_is_refused() -> None:
    model, images = Odd(nn.Identity()), torch.randn(2, 3, 8, 8)
    model.unused = nn.Linear(8, 8)
    with pytest.raises(PruneError, match="'unused' is not called in the forward pass"):
        cut(model, {"unused": 4}, example=images, check_input=images)


@pytest.mark.parametrize("plan", [{"odd": 4}, {"mixer": 4}])
def test_weights_that_are_computed_are_refused(plan: dict[str, int]) -> None:
    model, images = Odd(nn.utils.weight_norm(nn.Conv2d(8, 8, 1))), torch.randn(2, 3, 8, 8)
    with pytest.raises(PruneError, match="'odd' computes its weight from others"):
        cut(model, plan, example=images, check_input=images)


def test_a_model_that_cannot_be_copied_is_refused_in_words() -> None:
    model = Odd(nn.utils.weight_norm(nn.ConvTranspose2d(8, 8, 1)))
    images = torch.randn(2, 3, 8, 8)
    model(images)  # from now on a weight depends on others
    with pytest.raises(PruneError, match=r"^Odd cannot be copied .* those of weight_norm"):
        cut(model, {"mixer": 4}, example=images, check_input=images)


@pytest.mark.parametrize(
    "odd", [nn.Conv2d(8, 8, 3, groups=2), nn.GroupNorm(2, 8), Scale((8, 1, 1))]
)
def test_what_a_cut_does_not_reach_may_stay(odd: nn.Module) -> None:
    check_supported(Odd(odd), {"mixer": 4, "stem": 8})


@pytest.mark.parametrize("odd", [nn.ConvTranspose2d(8, 8, 2), nn.PReLU(8), Scale(())])
def test_what_can_be_narrowed(odd: nn.Module) -> None:
    images = torch.randn(2, 3, 8, 8)
    result = cut(Odd(odd), {"stem": 4}, example=images, check_input=images)
    assert layer_widths(result.model)["stem"] == 4


def test_a_group_that_the_plan_names_in_part_is_refused(small_net: nn.Module) -> None:
    images = torch.randn(2, 3, 8, 8)
    with pytest.raises(PruneError, match="share their channels"):
        cut(small_net, {"pointwise": 4}, example=images, check_input=images)


def test_our_own_models_can_be_cut_everywhere() -> None:
    for name in ("osnet_x0_25", "osnet_ain_x0_5", "resnet18", "resnet50_bnneck"):
        model = build_model(name)
        outputs = output_layers(model)
        widths = {
            layer: width if layer in outputs else max(1, width // 2)
            for layer, width in layer_widths(model).items()
        }
        check_supported(model, widths)
