"""Every operator that multiplies counts, whichever layer or function calls it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights
from torchvision.ops import DeformConv2d

from reid_edge.core.cost import layer_costs, model_cost, module_costs
from reid_edge.core.errors import ModelError

pytestmark = pytest.mark.medium

IMAGE = torch.zeros(1, 3, 8, 8)

# One of each family of torchvision's classification models.
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
]  # fmt: skip
EXACTLY = ("resnet18", "shufflenet_v2_x0_5", "squeezenet1_0", "vit_b_32")


class Applied(nn.Module):
    """A function of the image, or a layer on (N, 3, 8, 8) brought into another shape."""

    def __init__(self, function: Callable[..., Tensor], shape: tuple[int, ...] | None = None):
        super().__init__()
        self.function = function
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        found = self.function(x if self.shape is None else x.reshape(self.shape))
        return found[0] if isinstance(found, tuple) else found


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return tokens


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (nn.Conv2d(3, 5, 3), 6 * 6 * 5 * 27),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), 8 * 8 * 3 * 5 * 4),
        (nn.ConvTranspose2d(3, 6, 3, groups=3), 8 * 8 * 6 * 9),
        (Applied(nn.Conv1d(3, 5, 3), (1, 3, 64)), 62 * 5 * 9),
        (Applied(nn.ConvTranspose1d(3, 5, 3), (1, 3, 64)), 64 * 3 * 5 * 3),
        (Applied(nn.Conv3d(3, 5, 2), (1, 3, 4, 4, 4)), 27 * 5 * 3 * 8),
        (Applied(nn.ConvTranspose3d(3, 5, 2), (1, 3, 4, 4, 4)), 64 * 3 * 5 * 8),
        (Applied(nn.Linear(24, 5), (8, 24)), 8 * 24 * 5),
        (Applied(nn.Linear(8, 5), (1, 4, 6, 8)), 24 * 8 * 5),
        (Applied(nn.Linear(192, 5), (192,)), 192 * 5),
        (Applied(SelfAttention(), (1, 24, 8)), 24 * 8 * 8 * 4 + 2 * 24 * 24 * 8),
        (
            Applied(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 24, 8)),
            24 * 8 * 8 * 4 + 2 * 24 * 24 * 8 + 2 * 24 * 8 * 16,
        ),
        (
            Applied(nn.LSTM(8, 6, 2, bidirectional=True), (24, 1, 8)),
            24 * 2 * 4 * 6 * (8 + 6 + 12 + 6),
        ),
        (Applied(nn.GRU(8, 6), (24, 1, 8)), 24 * 3 * 6 * (8 + 6)),
        (Applied(nn.RNN(8, 6), (24, 1, 8)), 24 * 6 * (8 + 6)),
        (Applied(lambda x: nn.Bilinear(8, 8, 5)(x, x), (24, 8)), 24 * 5 * 8 * 8),
        (Applied(lambda x: x @ x.mT), 3 * 8 * 8 * 8),
        (Applied(lambda x: torch.einsum("nchw,nchv->nwv", x, x)), 8 * 24 * 8),
        (Applied(lambda x: F.scaled_dot_product_attention(x, x, x)), 2 * 3 * 8 * 8 * 8),
        (Applied(lambda x: torch.addmm(x[:, :8], x, x.T[:, :8]), (8, 24)), 8 * 24 * 8),
        (Applied(lambda x: torch.baddbmm(x, x, x), (3, 8, 8)), 3 * 8 * 8 * 8),
        (Applied(lambda x: torch.mv(x, x[0]), (8, 24)), 8 * 24),
        (Applied(lambda x: torch.tensordot(x, x, dims=4)), 192),
        (Applied(lambda x: DeformConv2d(3, 5, 3)(x, x.new_zeros(1, 18, 6, 6))), 6 * 6 * 5 * 27),
        # These do not multiply matrices.
        (Applied(lambda x: F.normalize(F.interpolate(x, scale_factor=2, mode="bilinear"))), 0),
        (nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3), nn.AvgPool2d(2)), 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_each_operator_counts(model: nn.Module, macs: int, mode: Callable[[], object]) -> None:
    with mode():  # type: ignore[attr-defined]
        assert model_cost(model, IMAGE).macs == macs


@pytest.mark.parametrize("name", FAMILIES)
def test_the_count_is_the_published_one_and_pytorchs(name: str) -> None:
    weights = get_model_weights(name).DEFAULT
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    size = weights.transforms.keywords["crop_size"]
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = get_model(name, weights=None, **arguments).eval().to("meta")
    image = torch.zeros(1, 3, size, size, device="meta")
    cost = model_cost(model, image)
    assert cost.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)
    if name in EXACTLY:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image)
        assert 2 * cost.macs == counter.get_total_flops()
    if name not in ("googlenet", "inception_v3"):  # published with a second classifier
        assert cost.parameters == weights.meta["num_params"]


def test_attention_keeps_the_parameters_of_its_output_layer() -> None:
    model = Applied(SelfAttention(), (1, 24, 8))
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert model_cost(model, IMAGE).parameters == whole
    assert list(module_costs(model, IMAGE)) == ["function.attention"]
    assert layer_costs(model, IMAGE) == {}


def test_what_a_function_multiplies_belongs_to_the_module_that_calls_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Applied(lambda x: x @ x.mT))
    costs = module_costs(model, IMAGE)
    assert {name: cost.macs for name, cost in costs.items()} == {"0": 576, "1": 1536}


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: torch.fft.rfft2(x).abs(), "aten::_fft_r2c"),
        (lambda x: torch.linalg.inv(x + torch.eye(8)), "aten::linalg_inv_ex"),
    ],
)
def test_an_operator_that_cannot_be_counted_is_refused_by_name(
    function: Callable[[Tensor], Tensor], operator: str
) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Applied(function))
    words = rf"^module '1' \(Applied\) calls '{operator}', whose .* cannot be counted: write it"
    with pytest.raises(ModelError, match=words) as error:
        model_cost(model, IMAGE)
    assert "\n" not in str(error.value)
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_an_operator_of_another_package_is_refused_until_its_formula_is_registered() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    @torch.library.custom_op("tests_reid_edge::twist", mutates_args=())
    def twist(x: Tensor) -> Tensor:
        return x * 2

    model = Applied(twist)
    with pytest.raises(ModelError, match=r"'tests_reid_edge::twist'.*register_flop_formula"):
        model_cost(model, IMAGE)
    packet = torch.ops.tests_reid_edge.twist
    register_flop_formula(packet)(lambda shape, **_: 2 * shape.numel())
    try:
        assert model_cost(model, IMAGE).macs == IMAGE.numel()
    finally:
        del flop_registry[packet]
