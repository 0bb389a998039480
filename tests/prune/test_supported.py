"""What cannot be cut is refused before the surgery, by name."""

import pytest
import torch
from torch import Tensor, nn

from prune.costs import output_layers
from prune.cut import cut
from prune.errors import PruneError
from prune.layers import layer_widths
from prune.supported import check_supported
from reid.models import build_model


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


@pytest.mark.parametrize(
    "odd", [nn.Conv2d(8, 8, 3, groups=2), nn.GroupNorm(2, 8), Scale((8, 1, 1))]
)
def test_what_a_cut_does_not_reach_may_stay(odd: nn.Module) -> None:
    check_supported(Odd(odd), {"mixer": 4, "stem": 8})


@pytest.mark.parametrize("odd", [nn.ConvTranspose2d(8, 8, 2), nn.PReLU(8), Scale(())])
def test_what_can_be_narrowed(odd: nn.Module) -> None:
    pictures = torch.randn(2, 3, 8, 8)
    result = cut(Odd(odd), {"stem": 4}, example=pictures, check_input=pictures)
    assert layer_widths(result.model)["stem"] == 4


def test_a_group_that_the_plan_names_in_part_is_refused(small_net: nn.Module) -> None:
    pictures = torch.randn(2, 3, 8, 8)
    with pytest.raises(PruneError, match="share their channels"):
        cut(small_net, {"pointwise": 4}, example=pictures, check_input=pictures)


def test_our_own_models_can_be_cut_everywhere() -> None:
    for name in ("osnet_x0_25", "osnet_ain_x0_5", "resnet18", "resnet50_bnneck"):
        model = build_model(name)
        outputs = output_layers(model)
        widths = {
            layer: width if layer in outputs else max(1, width // 2)
            for layer, width in layer_widths(model).items()
        }
        check_supported(model, widths)
