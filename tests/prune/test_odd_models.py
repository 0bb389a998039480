"""Networks of other people's making: cut rightly, or refused with the layer's name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prune.costs import CostModel
from prune.equivalence import largest_difference, masked_difference
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.supported import check_supported
from prune.surgery import Cut, cut
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PruneError

pytestmark = pytest.mark.medium

Randomise = Callable[[nn.Module], None]


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))


class Net(nn.Module):
    """A stem, what a test is about, a linear head."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.last = conv(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.middle(F.relu(self.stem(x))))

    def middle(self, x: Tensor) -> Tensor:
        return x

    def finish(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.last(x)).mean((2, 3)))


def run_cut(model: nn.Module, plan: dict[str, int]) -> Cut:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 16, 16)
    return cut(model.eval(), plan, example=images[:2], check_input=images)


class TwoOutputs(Net):
    def finish(self, x: Tensor) -> Tensor:
        return {"head": super().finish(x), "maps": self.last(x)}  # type: ignore[return-value]


class LinearGate(Net):
    """Squeeze-and-excitation as its authors wrote it, with linear layers."""

    def __init__(self) -> None:
        super().__init__(a=conv(16, 16), down=nn.Linear(16, 4), up=nn.Linear(4, 16))

    def middle(self, x: Tensor) -> Tensor:
        x = self.a(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class Tokens(nn.Module):
    """A linear layer on tokens, (N, T, C), with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.wide, self.narrow = nn.Linear(12, 24), nn.Linear(24, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head((tokens + self.narrow(F.relu(self.wide(tokens)))).mean(1))


class Upsampled(Net):
    def __init__(self) -> None:
        super().__init__(
            a=nn.Conv2d(16, 12, 3, stride=2, padding=1),
            t=nn.ConvTranspose2d(12, 10, 2, stride=2),
            n=nn.BatchNorm2d(10),
            c=conv(10, 16),
        )

    def middle(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.n(self.t(self.a(x)))))


class OneChannelGate(Net):
    def __init__(self) -> None:
        super().__init__(a=conv(16, 16), gate=nn.Conv2d(16, 1, 1))

    def middle(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return x * torch.sigmoid(self.gate(x))


class UNet(Net):
    """Reads as many channels of a transposed convolution as of the stem."""

    def __init__(self) -> None:
        super().__init__(
            a=nn.Conv2d(16, 12, 3, stride=2, padding=1),
            t=nn.ConvTranspose2d(12, 16, 2, stride=2),
            c=conv(32, 16),
        )

    def middle(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([x, F.relu(self.t(self.a(x)))], dim=1))


class MaskFirst(Net):
    """A normalisation behind a map that a mask of one channel comes before."""

    def __init__(self) -> None:
        super().__init__(gate=nn.Conv2d(16, 1, 1), a=conv(16, 16), n=nn.BatchNorm2d(16))

    def middle(self, x: Tensor) -> Tensor:
        return self.n(torch.sigmoid(self.gate(x)) * self.a(x))


class TwoNames(Net):
    def __init__(self) -> None:
        super().__init__(a=conv(16, 16))
        self.blocks = nn.ModuleList([self.stem, self.a])

    def middle(self, x: Tensor) -> Tensor:
        return self.a(x)


class ImageToo(Net):
    """Reads the image beside the stem's channels."""

    def __init__(self) -> None:
        super().__init__(c=conv(19, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.c(torch.cat([F.relu(self.stem(x)), x], dim=1)))


class NormalisesItself(Net):
    """Takes images as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.register_buffer("std", 1 + torch.rand(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


class CalledByItsSecondName(Net):
    """A layer that the forward pass finds in a list."""

    def __init__(self) -> None:
        super().__init__(a=nn.Conv2d(16, 16, 3, padding=1))
        self.layers = nn.ModuleList([self.a])

    def middle(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


class CalledByItsFirstName(CalledByItsSecondName):
    def middle(self, x: Tensor) -> Tensor:
        return self.a(x)


class AddsBySecondName(Net):
    """Adds the output of a layer that its block knows by another name."""

    def __init__(self) -> None:
        super().__init__(a=nn.Conv2d(16, 12, 1), b=nn.Conv2d(16, 12, 1), c=conv(12, 16))
        self.block = nn.Sequential(self.b, nn.ReLU())

    def middle(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.block(x))


class SameTwice(Net):
    """Reads every channel of the stem twice."""

    def __init__(self) -> None:
        super().__init__(c=conv(32, 16))

    def middle(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([x, x], dim=1))


class Optional(Net):
    """The signature of torchreid's OSNet, and a mask that is seldom given."""

    def forward(
        self, x: Tensor, return_featuremaps: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        x = F.relu(self.stem(x))
        if return_featuremaps:
            return x
        return self.finish(x if mask is None else x * mask)


@pytest.mark.parametrize(
    ("make", "plan"),
    [
        (TwoOutputs, {"stem.0": 9}),
        (LinearGate, {"stem.0": 9, "a.0": 7, "up": 7, "down": 2}),
        (Tokens, {"patch": 7, "narrow": 7, "wide": 11}),
        (Upsampled, {"stem.0": 9, "a": 5, "c.0": 7}),
        (OneChannelGate, {"stem.0": 9, "a.0": 7}),
        (UNet, {"stem.0": 9, "a": 5}),
        (MaskFirst, {"stem.0": 9, "a.0": 7}),
        (TwoNames, {"stem.0": 9, "a.0": 7}),
        (ImageToo, {"stem.0": 9, "c.0": 7}),
        (SameTwice, {"stem.0": 9, "c.0": 7}),
        (NormalisesItself, {"stem.0": 9, "last.0": 7}),
        (CalledByItsSecondName, {"stem.0": 9, "a": 7}),
        (CalledByItsFirstName, {"stem.0": 9, "a": 7}),
        (AddsBySecondName, {"stem.0": 9, "a": 7, "b": 7}),
        (Optional, {"stem.0": 9, "last.0": 7}),
    ],
)
def test_what_is_cut_rightly(
    make: Callable[[], nn.Module], plan: dict[str, int], randomise_normalisation: Randomise
) -> None:
    torch.manual_seed(1)
    model = make()
    randomise_normalisation(model)
    result = run_cut(model, plan)
    assert result.difference < 1e-5
    assert {name: layer_widths(result.model)[name] for name in plan} == plan
    images = torch.rand(64, 3, 16, 16)
    planned = CostModel(model, images[:1]).cost(plan)
    assert planned == model_cost(result.model, images[:1])
    fits = reconstruct(result.model, model, result.kept, images)
    assert all(fit.after <= fit.before for fit in fits.values())
    assert any(fit.after < 0.9 * fit.before for fit in fits.values())


@pytest.mark.parametrize("make", [CalledByItsSecondName, CalledByItsFirstName])
def test_a_layer_of_two_names_stays_one(make: Callable[[], Net]) -> None:
    result = run_cut(make(), {"stem.0": 9, "a": 7})
    assert result.model.get_submodule("layers.0") is result.model.get_submodule("a")
    again = run_cut(result.model, {"stem.0": 8, "a": 5})
    assert layer_widths(again.model) == layer_widths(result.model) | {"stem.0": 8, "a": 5}


class Joined(Net):
    def __init__(self) -> None:
        super().__init__(a=nn.Conv2d(16, 8, 1), b=nn.Conv2d(16, 8, 1), n=nn.BatchNorm2d(16))

    def middle(self, x: Tensor) -> Tensor:
        return self.n(torch.cat([self.a(x), self.b(x)], dim=1))


class Halves(Net):
    def __init__(self) -> None:
        super().__init__(a=conv(16, 16), b=conv(8, 8))

    def middle(self, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, dim=1)
        return torch.cat([first, self.b(second)], dim=1)


class Sliced(Net):
    def __init__(self) -> None:
        super().__init__(a=conv(16, 32), b=conv(16, 16))

    def middle(self, x: Tensor) -> Tensor:
        return self.a(x)[:, :16] + self.b(x)


class Shuffled(Net):
    def __init__(self) -> None:
        super().__init__(a=conv(16, 16))

    def middle(self, x: Tensor) -> Tensor:
        return self.a(x).unflatten(1, (2, 8)).transpose(1, 2).flatten(1, 2)


class Applied(Net):
    def __init__(self, odd: Callable[[Tensor], Tensor]) -> None:
        super().__init__(**({"odd": odd} if isinstance(odd, nn.Module) else {}))
        self._odd = odd

    def middle(self, x: Tensor) -> Tensor:
        return self._odd(x)


class View(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(1, 16, 1, 1)


@pytest.mark.parametrize(
    ("model", "plan", "words"),
    [
        (
            Joined(),
            {"a": 4, "b": 4},
            "'n' does not normalise the channels of one layer .* of 'a' cannot",
        ),
        (
            Halves(),
            {"a.0": 8},
            "'chunk' does not treat channels one by one, so the .* 'a.0' cannot",
        ),
        (Applied(nn.PixelShuffle(1)), {"stem.0": 8}, "'odd' is a PixelShuffle, which does not"),
        (Applied(nn.LocalResponseNorm(3)), {"stem.0": 8}, "'odd' is a LocalResponseNorm, which"),
        (
            Applied(nn.GroupNorm(4, 16, affine=False)),
            {"stem.0": 8},
            "'odd' is a GroupNorm, which does not treat",
        ),
        (
            Applied(nn.BatchNorm2d(16, track_running_stats=False)),
            {"stem.0": 8},
            "'odd' is a BatchNorm2d without running statistics",
        ),
        (
            Applied(nn.ConvTranspose2d(16, 16, 1, groups=16)),
            {"stem.0": 8},
            "'odd' is a transposed convolution of 16 groups",
        ),
        (
            Applied(lambda x: F.layer_norm(x, (16, 16, 16))),
            {"stem.0": 8},
            "'layer_norm' does not treat channels one by one, so the channels of 'stem.0'",
        ),
        (Applied(View()), {"stem.0": 8}, "'odd.gamma' is a tensor that the model uses outside of"),
        (
            Shuffled(),
            {"a.0": 8},
            "^'unflatten' spreads channels over several dimensions, as a channel shuffle does, .* "
            "of 'a.0' cannot",
        ),
        (
            Applied(lambda x: x.softmax(1)),
            {"stem.0": 8},
            "^'softmax' does not treat channels one by one, so the channels of 'stem.0' cannot",
        ),
    ],
)
def test_what_is_refused(model: nn.Module, plan: dict[str, int], words: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(PruneError, match=words) as error:
        run_cut(model, plan)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_that_share_a_part_of_their_channels() -> None:
    with pytest.raises(PruneError, match=r"'a.0' and 'b.0' share a part of their channels, by a"):
        run_cut(Sliced(), {"b.0": 8})
    assert run_cut(Sliced(), {"stem.0": 8, "last.0": 8}).difference < 1e-5


class Further(Net):
    """A network whose output has more in it than tensors."""

    def __init__(self, further: object) -> None:
        super().__init__()
        self.further = further

    def finish(self, x: Tensor) -> Tensor:
        return {"head": super().finish(x), "maps": [(x, self.further)]}  # type: ignore[return-value]


@pytest.mark.parametrize("further", [None, "name"])
def test_outputs_may_be_nested(further: object) -> None:
    cut = run_cut(Further(further), {"last.0": 8})
    assert cut.difference < 1e-5
    image = torch.randn(1, 3, 16, 16)
    assert cut.model(image)["maps"][0][1] is further


def test_what_is_no_tensor_must_stay_the_same() -> None:
    image = torch.rand(1, 3, 2, 2)
    for ours, theirs in (("a" * 999, "b"), (image, None), (None, image), (2, image)):
        with pytest.raises(PruneError, match=r"the compact model gives .* where the") as error:
            largest_difference((image, ours), (image, theirs))
        assert len(str(error.value)) < 200
    with pytest.raises(PruneError, match="the model's output holds no tensor"):
        largest_difference(["name"], ["name"])


def test_a_state_may_hold_more_than_tensors() -> None:
    class Versioned(Net):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: object) -> None:
            assert state == {"version": 3}

    assert run_cut(Versioned(), {"last.0": 8}).difference < 1e-5


def test_a_model_with_a_scripted_part_is_refused_with_the_reason() -> None:
    class Scripted(Net):
        def __init__(self) -> None:
            super().__init__(script=torch.jit.script(nn.Sequential(nn.ReLU())))  # type: ignore[no-untyped-call]

        def middle(self, x: Tensor) -> Tensor:
            return self.script(x)

    with pytest.raises(PruneError, match="without scripted modules"):
        find_groups(Scripted().eval(), torch.rand(2, 3, 16, 16))


def test_outputs_that_torch_jit_does_not_trace() -> None:
    with pytest.raises(PruneError, match=r"^Further cannot be traced by torch.jit .*: ") as error:
        run_cut(Further(3), {"last.0": 8})
    assert "\n" not in str(error.value)


def test_tokens_may_be_split() -> None:
    class ClassToken(Tokens):
        def forward(self, x: Tensor) -> Tensor:
            tokens = self.narrow(F.relu(self.wide(self.patch(x).flatten(2).transpose(1, 2))))
            first, rest = tokens.split([1, 15], dim=1)
            return self.head(first.mean(1) + rest.mean(1))

    assert run_cut(ClassToken(), {"narrow": 7, "wide": 11}).difference < 1e-5


def test_nothing_that_is_not_a_number_passes() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x * float("nan")

    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(PruneError, match="masked and compact model differ by nan"):
        masked_difference((x, x), Broken(), x)


def test_images_may_have_a_default() -> None:
    class Default(Net):
        def forward(self, x: Tensor | None = None, scale: float = 2.0) -> Tensor:
            assert x is not None
            return super().forward(x) * scale

    assert run_cut(Default(), {"stem.0": 9}).difference < 1e-5


def test_a_model_of_two_inputs_is_refused() -> None:
    class Both(Net):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x * mask)

    with pytest.raises(PruneError, match="Both needs 'mask' besides images"):
        check_supported(Both(), {"stem.0": 8})


class Overwritten(Net):
    """Reads the stem's output twice, the second time through an operation in place."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__(side=conv(16, 16), a=conv(16, 16))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        side = self.side(x)
        return self.finish(self.a(self.relu(x)) + side)


@pytest.mark.parametrize(
    "relu",
    [nn.ReLU(inplace=True), torch.relu_, lambda x: x.relu_(), lambda x: F.relu(x, inplace=True)],
)
def test_what_works_in_place_is_reconstructed_alike(
    relu: Callable[[Tensor], Tensor], randomise_normalisation: Randomise
) -> None:
    left: list[dict[str, Tensor]] = []
    for one in (relu, nn.ReLU()):
        torch.manual_seed(2)
        model = Overwritten(one)
        randomise_normalisation(model)
        result = run_cut(model, {"stem.0": 9, "side.0": 10, "a.0": 10})
        reconstruct(result.model, model, result.kept, torch.rand(32, 3, 16, 16))
        left.append(result.model.state_dict())
    assert getattr(relu, "inplace", True)
    assert all(torch.equal(value, left[1][name]) for name, value in left[0].items())
