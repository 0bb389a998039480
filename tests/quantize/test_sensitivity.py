"""The scan finds the layer that int8 hurts, and sparing it is what calibrating without it gives."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from quantize.agreement import Agreement, Reference
from quantize.calibrate import Calibrated, Scheme, calibrate, keep_in_float
from quantize.sensitivity import (
    Sensitivity,
    layer_groups,
    measure_sensitivity,
    steps_to_budget,
)
from quantize.static import convert_calibrated, quantize_static
from reid_edge.core.int8_engine import quantized_engine, supported_engines

pytestmark = pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK")


class Block(nn.Module):
    """A convolution, BatchNorm, ReLU, and one more convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.point = nn.Conv2d(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.relu(self.norm(self.conv(x))))  # type: ignore[no-any-return]


class Chain(nn.Module):
    """Blocks; in the second one, a channel a hundred times as large drowns the others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 8), Block(8, 8), Block(8, 8))
        self.fc = nn.Linear(8 * 7 * 3, 16)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            self.blocks[1].norm.weight[0] = 300.0  # type: ignore[index, union-attr]
            self.blocks[1].point.weight[:, 0] /= 300.0  # type: ignore[index, operator, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def chain() -> nn.Module:
    torch.manual_seed(0)
    return Chain().eval()


@pytest.fixture(scope="module")
def calibrated(chain: nn.Module, images: Tensor) -> Calibrated:
    return calibrate(chain, images.split(4), Scheme(observer="minmax"))


@pytest.fixture(scope="module")
def found(chain: nn.Module, calibrated: Calibrated, images: Tensor) -> Sensitivity:
    return measure_sensitivity(chain, calibrated, images.split(6))


def test_layers_that_belong_together_are_one(chain: nn.Module, osnet: nn.Module) -> None:
    assert layer_groups(chain) == ["stem", "blocks.0", "blocks.1", "blocks.2", "fc"]
    groups = layer_groups(osnet)
    assert groups[0] == "conv1"
    assert groups[-1] == "fc"
    assert {"conv2.0.gate", "conv3.0.conv2d.3", "conv2.1.0", "conv4.0.downsample"} <= set(groups)
    assert len(groups) == len(set(groups))


def test_the_layer_that_int8_hurts_comes_first(found: Sensitivity) -> None:
    assert found.layers[0].layer == "blocks.1"
    assert max(found.layers, key=lambda cost: cost.alone).layer == "blocks.1"
    assert found.layers[0].saved > 0.5 * found.everything
    assert found.layers[0].weighted_layers == 2
    assert found.layers[0].weights == 8 * 8 * 9 + 8 * 8
    # 64 x 32 pixels, halved by the first block to 31 x 15 and by the second to 15 x 7.
    assert found.layers[0].macs == found.layers[0].weights * 15 * 7
    assert next(c.macs for c in found.layers if c.layer == "fc") == 8 * 7 * 3 * 16


class OnTokens(nn.Module):
    """A linear layer on every place of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.stem(x).flatten(2).transpose(1, 2)).mean(1)  # type: ignore[no-any-return]


def test_the_macs_of_a_linear_layer_on_tokens(images: Tensor) -> None:
    model = OnTokens().eval()
    calibrated = calibrate(model, [images], Scheme(observer="minmax"))
    layers = measure_sensitivity(model, calibrated, [images]).layers
    macs = {cost.layer: cost.macs for cost in layers}
    assert macs == {"stem": 64 * 32 * 3 * 8 * 9, "mix": 64 * 32 * 8 * 5}


def test_parts_add_up_to_about_the_whole(found: Sensitivity) -> None:
    parts = found.image + found.operators + sum(cost.alone for cost in found.layers)
    assert parts == pytest.approx(found.everything, rel=0.5)


def test_a_layer_alone_is_what_rounding_it_by_hand_gives(
    chain: nn.Module, calibrated: Calibrated, images: Tensor, found: Sensitivity
) -> None:
    model = copy.deepcopy(chain)
    weight = model.stem.weight  # type: ignore[union-attr]
    scale = weight.detach().abs().amax((1, 2, 3), keepdim=True) / 127.5  # type: ignore[operator, union-attr]
    model.stem.weight = nn.Parameter((weight / scale).round().clamp(-128, 127) * scale)  # type: ignore[operator, union-attr]
    with torch.no_grad():
        outputs = model.stem(images)  # type: ignore[operator]
        exact = chain.stem(images)  # type: ignore[operator]
        low, high = float(exact.min()), float(exact.max())
        step = (high - low) / 255
        zero = round(-low / step)
        rounded = ((outputs / step).round() + zero).clamp(0, 255).sub(zero) * step
        embeddings = chain.fc(chain.blocks(rounded).flatten(1))  # type: ignore[operator]
        reference = chain(images)
    cosine = nn.functional.cosine_similarity(embeddings.double(), reference.double())
    alone = next(cost.alone for cost in found.layers if cost.layer == "stem")
    assert alone == pytest.approx(float(1 - cosine.mean()), rel=0.1)


def test_keeping_layers_in_float_is_calibrating_without_them(
    chain: nn.Module, calibrated: Calibrated, images: Tensor
) -> None:
    partly_float = keep_in_float(chain, calibrated, ["blocks.1"])
    int8 = convert_calibrated(partly_float)
    scheme = Scheme(observer="minmax", float_layers=("blocks.1",))
    expected = quantize_static(chain, images.split(4), scheme)
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert torch.equal(int8(images), expected(images))


def test_the_costliest_are_left_in_float_until_the_budget_is_met(
    chain: nn.Module, calibrated: Calibrated, images: Tensor, found: Sensitivity
) -> None:
    reference = Reference(chain, [images])

    def measure(float_layers: Sequence[str]) -> Agreement:
        partly_float = keep_in_float(chain, calibrated, float_layers)
        return reference.agreement(convert_calibrated(partly_float), "qnnpack")

    ranked = [cost.layer for cost in found.layers]
    whole = measure([]).mean_cosine_error
    steps = list(steps_to_budget(measure, ranked, budget=whole / 2, most=3))
    assert [step.float_layers for step in steps] == [(), ("blocks.1",)]
    assert steps[-1].agreement.mean_cosine_error <= whole / 2
    assert len(list(steps_to_budget(measure, ranked, budget=whole, most=3))) == 1
    hopeless = list(steps_to_budget(measure, ranked, budget=0.0, most=2))
    assert [len(step.float_layers) for step in hopeless] == [0, 1, 2]


def test_the_model_is_left_as_it_is_and_progress_is_reported(
    chain: nn.Module, calibrated: Calibrated, images: Tensor
) -> None:
    before = copy.deepcopy(chain.state_dict())
    reported: list[tuple[int, int]] = []
    again = measure_sensitivity(
        chain, calibrated, [images], progress=lambda done, total: reported.append((done, total))
    )
    assert reported == [(n, 5) for n in range(1, 6)]
    assert all(torch.equal(before[name], value) for name, value in chain.state_dict().items())
    assert again.layers[0].layer == "blocks.1"
