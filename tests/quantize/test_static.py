import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantize.calibrate import ObserverName, Scheme
from quantize.call_sites import call_sites
from quantize.static import quantize_static
from reid_edge.core.errors import QuantizeError
from reid_edge.core.int8_engine import Engine, quantized_engine, supported_engines
from reid_edge.models import build_model
from tests.networks import SHORT_OSNET_IBN_X0_5

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK"),
]

MINMAX = Scheme(observer="minmax")


@pytest.fixture(scope="module")
def minmax_osnet(osnet: nn.Module, images: Tensor) -> fx.GraphModule:
    return quantize_static(osnet, images.split(4), MINMAX)


@torch.inference_mode()
def _cosine(model: nn.Module, int8: nn.Module, images: Tensor) -> float:
    with quantized_engine("qnnpack"):
        return float(F.cosine_similarity(model(images), int8(images)).min())


def test_int8_embeddings_are_near_the_float_ones(
    osnet: nn.Module, int8_osnet: fx.GraphModule, images: Tensor
) -> None:
    assert _cosine(osnet, int8_osnet, images) > 0.98


def test_each_call_of_a_gate_has_ranges_of_its_own(
    osnet: nn.Module, int8_osnet: fx.GraphModule
) -> None:
    calls = [site for site, module in call_sites(osnet).items() if module == "conv4.0.gate.fc1"]
    scales = {float(int8_osnet.get_submodule(site).scale) for site in calls}  # type: ignore[arg-type]
    assert len(scales) == len(calls) == 4


def test_same_inputs_same_bits(
    osnet: nn.Module, int8_osnet: fx.GraphModule, images: Tensor
) -> None:
    again = quantize_static(osnet, images.split(4))
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert torch.equal(again(images), int8_osnet(images))


def test_a_model_in_training_mode_is_quantized_in_evaluation_mode_and_left_alone(
    osnet: nn.Module, minmax_osnet: fx.GraphModule, images: Tensor
) -> None:
    model = copy.deepcopy(osnet).train()
    before = copy.deepcopy(model.state_dict())
    int8 = quantize_static(model, images.split(4), MINMAX)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert torch.equal(int8(images), minmax_osnet(images))


def test_progress_counts_images(osnet: nn.Module, images: Tensor) -> None:
    seen: list[int] = []
    batches = (batch for batch in images.split(5))
    quantize_static(nn.Sequential(nn.Conv2d(3, 4, 3)), batches, progress=seen.append)
    assert seen == [5, 10, 12]


@pytest.mark.parametrize("engine", supported_engines())
def test_the_user_sees_no_deprecation_notices(images: Tensor, engine: Engine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_static(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), [images], Scheme(engine=engine)
        )


class DeadChannel(nn.Module):
    """A channel whose weights are nearly zero and whose bias is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        with torch.no_grad():
            self.conv.weight[1] = 1e-12
            self.conv.bias.copy_(torch.tensor([0.1, 0.6]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_bias_of_a_dead_channel_survives(images: Tensor, per_channel: bool) -> None:
    # A small input makes the steps of QNNPACK's integer bias so small that it would overflow.
    small = images * 1e-3
    int8 = quantize_static(DeadChannel(), [small], Scheme(per_channel=per_channel))
    with quantized_engine("qnnpack"), torch.inference_mode():
        torch.testing.assert_close(
            int8(small)[:, 1], torch.full((12, 62, 30), 0.6), rtol=0, atol=0.005
        )


def test_bias_correction_takes_back_the_mean_error(
    osnet: nn.Module, minmax_osnet: fx.GraphModule, images: Tensor
) -> None:
    plain = quantize_static(osnet, images.split(4), MINMAX, bias_correction=False)
    with quantized_engine("qnnpack"), torch.inference_mode():
        corrected, uncorrected = (
            (int8(images) - osnet(images)).mean(0).abs().mean() for int8 in (minmax_osnet, plain)
        )
    assert corrected < uncorrected


class Mixed(nn.Module):
    """Much of what a re-identification model may hold, and operators that have no int8 form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.pre = nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 6)
        self.neck = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        x = F.relu(self.pool(x) * torch.sigmoid(x.mean((2, 3), keepdim=True)) + self.pool(x))
        x = torch.cat([self.pre(x)[:, :4], x[:, 4:]], 1)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return F.normalize(self.neck(self.relu(self.last(x))))


@pytest.mark.parametrize("engine", supported_engines())
def test_mixed_operators_work_on_every_engine(images: Tensor, engine: Engine) -> None:
    torch.manual_seed(0)
    model = Mixed().eval()
    int8 = quantize_static(model, [images], Scheme(engine=engine))
    with quantized_engine(engine), torch.inference_mode():
        assert F.cosine_similarity(int8(images), model(images)).min() > 0.98


@pytest.mark.parametrize("observer", ["minmax", "moving_average"])
def test_observers_and_per_tensor_weights(
    osnet: nn.Module, images: Tensor, observer: ObserverName
) -> None:
    scheme = Scheme(observer=observer, per_channel=False)
    int8 = quantize_static(osnet, images.split(4), scheme)
    assert _cosine(osnet, int8, images) > 0.95


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"scheme": Scheme(engine="tpu")},
            "int8 engine 'tpu' is not supported here; supported: .*qnnpack",
        ),
        (
            {"scheme": Scheme(observer="magic")},
            "unknown observer 'magic': known are histogram, minmax, moving_a",
        ),
        (
            {"scheme": Scheme(float_layers=("conv2.0.gat",))},
            r"no layer 'conv2.0.gat' .* mean 'conv2.0.gate'\?",
        ),
        ({"calibration": []}, "no calibration images: .*"),
        ({"calibration": [(1, 2)]}, "calibration batch 0 is a tuple, not a tensor"),
        ({"calibration": [torch.zeros(3, 8, 8)]}, r"batch 0 has shape \(3, 8, 8\), expected"),
        (
            {"calibration": [torch.zeros(1, 3, 64, 32), torch.zeros(1, 3, 32, 32)]},
            r"batch 1 holds images of size \(3, 32, 32\), those before had \(3, 64, 32\)",
        ),
        ({"calibration": [torch.full((1, 3, 64, 32), torch.nan)]}, "batch 0 .* not finite"),
    ],
)
def test_refusals(
    osnet: nn.Module, images: Tensor, arguments: dict[str, object], words: str
) -> None:
    before = torch.backends.quantized.engine
    quantize: Callable[..., fx.GraphModule] = quantize_static
    with pytest.raises(QuantizeError, match=words) as error:
        quantize(osnet, **{"calibration": [images], **arguments})
    assert "\n" not in str(error.value)
    assert torch.backends.quantized.engine == before


def test_a_model_whose_trace_computes_something_else_is_refused(
    written_over: nn.Module, images: Tensor
) -> None:
    with pytest.raises(QuantizeError, match=r"^WrittenOver and its torch\.fx trace .* in place"):
        quantize_static(written_over, [images], MINMAX)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_model_without_finite_outputs_is_refused(images: Tensor, value: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[1].running_mean.fill_(value)  # type: ignore[union-attr]
    with pytest.raises(QuantizeError, match=r"^the output of Sequential is not finite on the im"):
        quantize_static(model, [images], MINMAX)


def test_instance_norm_variant(images: Tensor) -> None:
    torch.manual_seed(0)
    model = build_model(SHORT_OSNET_IBN_X0_5).eval()
    int8 = quantize_static(model, [images[:4]], MINMAX)
    assert _cosine(model, int8, images[:4]) > 0.98
