"""What is said of layers that were to stay in float."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.stages.float_layers import choose_float_layers, warn_of_ignored
from pipeline.stages.quantize import QuantizeStage
from quantize.agreement import Reference
from quantize.calibrate import Scheme, calibrate
from quantize.count import quantization_report
from quantize.static import quantize_static
from reid_edge.data.schema import ReidData

Config = config_class()


class Gated(nn.Module):
    """Two convolutions, one of them in a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return (x * self.gate(x)).mean((2, 3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Gated().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_name_that_leaves_nothing_in_float_is_warned_of(
    model: nn.Module, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    for asked_for, ignored in (
        (("gate",), ()),
        (("stem.0", "gate.0"), ()),
        (("gate.1", "stem.1", "stem.2"), ("gate.1", "stem.1", "stem.2")),
    ):
        int8 = quantize_static(model, [images], Scheme(float_layers=asked_for))
        report = quantization_report(model, int8, float_layers=asked_for)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            warn_of_ignored(asked_for, report)
        assert [record.getMessage() for record in caplog.records] == [
            f"quantize.float_layers: {name} on its own leaves nothing in float; name the module "
            "around it, or a layer with weights"
            for name in ignored
        ]


@pytest.mark.parametrize(
    ("most", "mode", "advice"),
    [
        (1, "static", "; raise quantize.max_float_layers, or try quantize.mode=qat"),
        (2, "static", "; try quantize.mode=qat"),
        (2, "qat", ""),
    ],
)
def test_a_missed_budget_comes_with_advice_that_can_help(
    model: nn.Module, images: Tensor, tmp_path: Path, tiny_data: ReidData,
    caplog: pytest.LogCaptureFixture, most: int, mode: str, advice: str,
) -> None:  # fmt: skip
    settings = {"accuracy_budget": 1e-12, "max_float_layers": most, "mode": mode}
    context = StageContext(
        stage="quantize", config=Config(), settings=QuantizeStage(**settings), folder=tmp_path,
        data=tiny_data, parent=None, teacher=None, parent_hash="", input_size=(8, 8),
    )  # fmt: skip
    calibrated = calibrate(model, [images])
    with caplog.at_level(logging.WARNING):
        choice = choose_float_layers(context, model, calibrated, Reference(model, [images]))
    assert choice.scan is not None
    assert sum(layer.saved > 0 for layer in choice.scan.layers) == 2
    assert caplog.records[-1].getMessage().endswith(f"quantize.accuracy_budget 0.00000{advice}")
