"""ResNet and OSNet-AIN become int8 as a whole, as OSNet does."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.calibrate import Scheme
from quantize.count import quantization_report
from quantize.static import quantize_static
from reid_edge.core.int8_engine import quantized_engine, supported_engines
from reid_edge.models import build_model
from reid_edge.models.osnet import CHANNELS_X0_5, OSNET_X0_25_BNNECK
from tests.networks import short_osnet_ain

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK"),
]


@pytest.mark.parametrize(
    ("make", "convolutions", "linear_layers", "in_float"),
    [
        pytest.param(
            partial(build_model, "resnet18", embedding_dim=64), 20, 1, ["global_avgpool"],
            id="resnet18",
        ),
        pytest.param(
            partial(build_model, "resnet18_bnneck", embedding_dim=64), 20, 1, ["global_avgpool"],
            id="resnet18_bnneck",
        ),
        pytest.param(
            partial(build_model, "resnet18_fastreid", embedding_dim=64), 20, 1, ["global_avgpool"],
            id="resnet18_fastreid",
        ),
        # Pooled features have no layer in front of the neck that it could be folded into.
        pytest.param(
            partial(build_model, "resnet18_bnneck"), 20, 0, ["bottleneck"], id="pooled features"
        ),
        pytest.param(
            partial(short_osnet_ain, CHANNELS_X0_5), 79, 1, ["global_avgpool"], id="osnet_ain"
        ),
        pytest.param(
            partial(OSNET_X0_25_BNNECK.build, blocks=(1, 1, 1)), 79, 0, ["bottleneck"],
            id="osnet_bnneck",
        ),
    ],
)  # fmt: skip
def test_all_layers_are_int8_or_listed(
    make: Callable[[], nn.Module],
    convolutions: int,
    linear_layers: int,
    in_float: list[str],
    images: Tensor,
) -> None:
    torch.manual_seed(0)
    calibration = images[:8]
    model = make().train()
    with torch.no_grad():
        for _ in range(3):
            model(calibration)
    model.eval()
    int8 = quantize_static(model, [calibration], Scheme(observer="minmax"))
    report = quantization_report(model, int8)
    assert (report.int8_convolutions, report.convolutions) == (convolutions, convolutions)
    assert (report.int8_linear_layers, report.linear_layers) == (linear_layers, linear_layers)
    assert [layer.name for layer in report.left_in_float] == in_float
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert F.cosine_similarity(model(calibration), int8(calibration)).min() > 0.98
